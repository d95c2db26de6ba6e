using System.Buffers.Text;

namespace KvNode.Server.Commands;

/// <summary>Whole numbers as clients write them.</summary>
internal static class CommandNumbers
{
    /// <summary>Redis's strict form: no plus sign, no leading zero, no blank, within 64 bits.</summary>
    public static bool TryParse(ReadOnlySpan<byte> text, out long value)
    {
        var digits = text.Length > 1 && text[0] == '-' ? text[1..] : text;
        if (digits.Length == 0 || digits[0] is < (byte)'0' or > (byte)'9' || (digits[0] == '0' && text.Length > 1))
        {
            value = 0;
            return false;
        }

        return Utf8Parser.TryParse(text, out value, out var consumed) && consumed == text.Length;
    }
}
