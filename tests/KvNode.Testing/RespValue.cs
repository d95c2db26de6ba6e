using System.Globalization;
using System.Text;

namespace KvNode.Testing;

/// <summary>
/// One reply, RESP2 or RESP3. <see cref="Type"/> is the type byte of the wire.
/// </summary>
/// <remarks>
/// <see cref="ToString"/> prints it on one line, the way tests compare it: <c>+OK</c>, <c>-ERR text</c>, <c>:3</c>,
/// <c>"bulk"</c> (bytes outside printable ASCII as <c>\xNN</c>), <c>nil</c> for $-1, <c>nil*</c> for *-1, <c>_</c> for
/// RESP3's null, <c>[a, b]</c>, <c>{k: v}</c>, <c>~[a]</c>, <c>#t</c>, <c>,1.5</c>, <c>="txt:text"</c>.
/// </remarks>
public sealed class RespValue(char type, byte[]? bytes, RespValue[]? items)
{
    public char Type { get; } = type;

    /// <summary>Payload of a bulk or the text of a line; null for aggregates and $-1.</summary>
    public byte[]? Bytes { get; } = bytes;

    /// <summary>Elements of an array, set or push; keys and values in turn of a map; null for the rest and *-1.</summary>
    public RespValue[]? Items { get; } = items;

    public bool IsError => Type is '-' or '!';

    public bool IsNull => Type == '_' || (Bytes is null && Items is null);

    public string Text => Bytes is null ? "" : Encoding.UTF8.GetString(Bytes);

    public long Integer => long.Parse(Text, CultureInfo.InvariantCulture);

    public int Count => Items?.Length ?? 0;

    public RespValue this[int index] => (Items ?? throw new InvalidOperationException($"{this} has no elements"))[index];

    /// <summary>The value of a map's (or a flat pair array's) key; null when absent.</summary>
    public RespValue? Field(string name)
    {
        for (var i = 0; i + 1 < Count; i += 2)
        {
            if (this[i].Text == name)
            {
                return this[i + 1];
            }
        }

        return null;
    }

    /// <summary>The texts of an array's elements.</summary>
    public string[] Texts() => (Items ?? []).Select(static item => item.Text).ToArray();

    public override string ToString()
    {
        var text = new StringBuilder();
        Print(text);
        return text.ToString();
    }

    private void Print(StringBuilder text)
    {
        switch (Type)
        {
            case '$':
                PrintBulk(text, "");
                break;
            case '=':
                PrintBulk(text, "=");
                break;
            case '*' when Items is null:
                text.Append("nil*");
                break;
            case '*':
                PrintItems(text, "[", "]");
                break;
            case '~':
                PrintItems(text, "~[", "]");
                break;
            case '>':
                PrintItems(text, ">[", "]");
                break;
            case '%':
                PrintMap(text);
                break;
            default:
                text.Append(Type).Append(Text);
                break;
        }
    }

    private void PrintBulk(StringBuilder text, string before)
    {
        if (Bytes is null)
        {
            text.Append("nil");
            return;
        }

        text.Append(before).Append('"');
        foreach (var b in Bytes)
        {
            _ = b is >= 0x20 and < 0x7f and not (byte)'"' and not (byte)'\\'
                ? text.Append((char)b)
                : text.Append("\\x").Append(b.ToString("x2", CultureInfo.InvariantCulture));
        }

        text.Append('"');
    }

    private void PrintItems(StringBuilder text, string open, string close)
    {
        text.Append(open);
        for (var i = 0; i < Count; i++)
        {
            text.Append(i == 0 ? "" : ", ");
            this[i].Print(text);
        }

        text.Append(close);
    }

    private void PrintMap(StringBuilder text)
    {
        text.Append('{');
        for (var i = 0; i + 1 < Count; i += 2)
        {
            text.Append(i == 0 ? "" : ", ");
            this[i].Print(text);
            text.Append(": ");
            this[i + 1].Print(text);
        }

        text.Append('}');
    }
}
