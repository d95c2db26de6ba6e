using System.Buffers.Text;

namespace KvNode.Server.Resp;

/// <summary>
/// An inline command's words, as Redis's <c>sdssplitargs</c> finds them, and their multibulk form.
/// <code>
/// line   = blank* ( word blank+ )* [ word ] blank*        blank: space \t \n \v \f \r
/// word   = plain* [ quoted ]                              a quote may begin inside a word and always ends it
/// plain  = any byte but space \t \n \r " '
/// quoted = '"' ( \xHH | \n \r \t \b \a | \ any | other )* '"'   |   "'" ( \' | other )* "'"
/// </code>
/// </summary>
internal static class InlineCommand
{
    /// <summary>
    /// Splits a line without its line end. Words are unescaped in place: the ranges point into the changed line.
    /// </summary>
    /// <returns>False when a quote is not closed, or its end is not followed by a blank or the line's end.</returns>
    public static bool TrySplit(Span<byte> line, ref RangeList words)
    {
        words.Clear();

        // Unescaping never lengthens: target <= source always.
        var source = 0;
        var target = 0;
        while (true)
        {
            while (source < line.Length && IsBlank(line[source]))
            {
                source++;
            }

            if (source == line.Length)
            {
                return true;
            }

            var start = target;
            if (!TryTakeWord(line, ref source, ref target))
            {
                return false;
            }

            words.Add(new ArgRange(start, target - start));
        }
    }

    /// <summary>Length of <c>*N CRLF ($len CRLF word CRLF)*</c>.</summary>
    public static int MultibulkLength(ReadOnlySpan<ArgRange> words)
    {
        var length = 1 + DigitCount(words.Length) + 2;
        foreach (var word in words)
        {
            length += 1 + DigitCount(word.Length) + 2 + word.Length + 2;
        }

        return length;
    }

    /// <summary>Writes the multibulk form; afterwards the ranges point into <paramref name="target"/>.</summary>
    public static void WriteMultibulk(ReadOnlySpan<byte> line, Span<ArgRange> words, Span<byte> target)
    {
        var at = WriteLine(target, (byte)'*', words.Length);
        foreach (ref var word in words)
        {
            at += WriteLine(target[at..], (byte)'$', word.Length);
            line.Slice(word.Offset, word.Length).CopyTo(target[at..]);
            word = new ArgRange(at, word.Length);
            at += word.Length;
            "\r\n"u8.CopyTo(target[at..]);
            at += 2;
        }
    }

    private static bool TryTakeWord(Span<byte> line, ref int source, ref int target)
    {
        while (source < line.Length)
        {
            switch (line[source])
            {
                case (byte)' ' or (byte)'\t' or (byte)'\n' or (byte)'\r':
                    return true;
                case (byte)'"':
                    source++;
                    return TryTakeDoubleQuoted(line, ref source, ref target) && EndsWord(line, source);
                case (byte)'\'':
                    source++;
                    return TryTakeSingleQuoted(line, ref source, ref target) && EndsWord(line, source);
                default:
                    line[target++] = line[source++];
                    break;
            }
        }

        return true;
    }

    private static bool EndsWord(ReadOnlySpan<byte> line, int at) => at == line.Length || IsBlank(line[at]);

    private static bool TryTakeDoubleQuoted(Span<byte> line, ref int source, ref int target)
    {
        while (source < line.Length)
        {
            var letter = line[source++];
            if (letter == '"')
            {
                return true;
            }

            if (letter == '\\' && source < line.Length)
            {
                letter = Unescape(line, ref source);
            }

            line[target++] = letter;
        }

        return false;
    }

    /// <param name="source">At the byte behind the backslash; moved behind the escape.</param>
    private static byte Unescape(ReadOnlySpan<byte> line, ref int source)
    {
        var letter = line[source++];
        if (letter == 'x' && line.Length - source >= 2
            && char.IsAsciiHexDigit((char)line[source]) && char.IsAsciiHexDigit((char)line[source + 1]))
        {
            source += 2;
            return (byte)((HexValue(line[source - 2]) << 4) | HexValue(line[source - 1]));
        }

        return letter switch
        {
            (byte)'n' => (byte)'\n',
            (byte)'r' => (byte)'\r',
            (byte)'t' => (byte)'\t',
            (byte)'b' => (byte)'\b',
            (byte)'a' => (byte)'\a',
            _ => letter,
        };
    }

    private static int HexValue(byte digit) => digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;

    private static bool TryTakeSingleQuoted(Span<byte> line, ref int source, ref int target)
    {
        while (source < line.Length)
        {
            var letter = line[source++];
            if (letter == '\'')
            {
                return true;
            }

            if (letter == '\\' && source < line.Length && line[source] == '\'')
            {
                letter = line[source++];
            }

            line[target++] = letter;
        }

        return false;
    }

    /// <summary>C's isspace. Of these, \v and \f part words but do not end one.</summary>
    private static bool IsBlank(byte letter) => letter is (byte)' ' or (>= (byte)'\t' and <= (byte)'\r');

    private static int WriteLine(Span<byte> target, byte type, int number)
    {
        target[0] = type;
        Utf8Formatter.TryFormat(number, target[1..], out var digits);
        target[digits + 1] = (byte)'\r';
        target[digits + 2] = (byte)'\n';
        return digits + 3;
    }

    private static int DigitCount(int number)
    {
        var count = 1;
        for (; number >= 10; number /= 10)
        {
            count++;
        }

        return count;
    }
}
