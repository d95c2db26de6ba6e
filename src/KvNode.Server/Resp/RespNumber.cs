using System.Buffers.Text;

namespace KvNode.Server.Resp;

/// <summary>Numbers as Redis reads them, in lengths and in arguments.</summary>
internal static class RespNumber
{
    /// <summary>
    /// Reads a decimal 64-bit integer in its one canonical form: an optional minus and digits; no plus, no blank, no
    /// leading zero, no <c>-0</c> (Redis's <c>string2ll</c>).
    /// </summary>
    public static bool TryParse(ReadOnlySpan<byte> text, out long number)
    {
        number = 0;
        var digits = text.StartsWith("-"u8) ? text[1..] : text;
        if (digits.IsEmpty || digits[0] is < (byte)'0' or > (byte)'9' || (digits[0] == '0' && text.Length > 1))
        {
            return false;
        }

        return Utf8Parser.TryParse(text, out number, out var parsed) && parsed == text.Length;
    }
}
