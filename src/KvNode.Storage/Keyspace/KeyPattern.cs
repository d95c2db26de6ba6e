using System.Buffers;

namespace KvNode.Storage;

/// <summary>
/// Redis's glob over bytes, and the smallest range of keys that a pattern can match.
/// <code>
/// *        any bytes, none included          ?       any one byte
/// [abc]    one of these                      [a-c]   one from a to c, in either order of writing
/// [^...]   one that is not                   \x      x itself, inside classes too
/// </code>
/// </summary>
/// <remarks>
/// <para>The edges are those of Redis 7.0.15's <c>stringmatchlen</c>: <c>]</c> closes a class wherever it stands, so
/// <c>[]</c> matches nothing and <c>[^]</c> any byte; a class that is not closed ends with the pattern; in <c>[a-]</c> the
/// range runs to <c>]</c> and the class is then not closed; a backslash at the very end stands for itself.</para>
/// <para>Two differences. Bytes are compared without sign, as Redis does on ARM; on x86 its ranges across 7F/80 come out
/// inverted. And a pattern of several stars matches the empty key, as one star does.</para>
/// <para>All members are pure and allocate nothing; any thread.</para>
/// </remarks>
public static class KeyPattern
{
    private static readonly SearchValues<byte> Special = SearchValues.Create("*?[\\"u8);

    /// <summary>
    /// Whether <paramref name="key"/> matches <paramref name="pattern"/>. At worst the product of both lengths in steps,
    /// never more: only the last star is ever tried again, since what an earlier one could still give, it gives too.
    /// </summary>
    public static bool Matches(ReadOnlySpan<byte> pattern, ReadOnlySpan<byte> key)
    {
        var p = 0;
        var k = 0;

        // Where to go on when a comparison fails: behind the last star, with that star having taken one byte more.
        var retryPattern = -1;
        var retryKey = 0;
        while (true)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                do
                {
                    p++;
                }
                while (p < pattern.Length && pattern[p] == '*');

                if (p == pattern.Length)
                {
                    return true;
                }

                retryPattern = p;
                retryKey = k;
                if (!TrySeek(pattern, p, key, ref retryKey))
                {
                    return false;
                }

                k = retryKey;
            }

            if (k == key.Length)
            {
                // More key cannot help either: every retry has less of it left.
                return p == pattern.Length;
            }

            if (p < pattern.Length && MatchesOne(pattern, ref p, key[k]))
            {
                k++;
                continue;
            }

            if (retryPattern < 0)
            {
                return false;
            }

            retryKey++;
            p = retryPattern;
            if (!TrySeek(pattern, p, key, ref retryKey))
            {
                return false;
            }

            k = retryKey;
        }
    }

    /// <summary>No wildcard: the pattern can match one key only, which <see cref="LiteralPrefix"/> gives.</summary>
    public static bool IsLiteral(ReadOnlySpan<byte> pattern)
    {
        for (var p = 0; p < pattern.Length; p++)
        {
            if (pattern[p] is (byte)'*' or (byte)'?' or (byte)'[')
            {
                return false;
            }

            if (pattern[p] == '\\')
            {
                p++;
            }
        }

        return true;
    }

    /// <summary>Nothing but stars, and at least one.</summary>
    public static bool MatchesAll(ReadOnlySpan<byte> pattern) => !pattern.IsEmpty && pattern.IndexOfAnyExcept((byte)'*') < 0;

    /// <summary>The bytes that every match begins with: the pattern up to its first wildcard, escapes resolved.</summary>
    /// <param name="buffer">At least as long as the pattern.</param>
    /// <returns>The length of the prefix in <paramref name="buffer"/>.</returns>
    public static int LiteralPrefix(ReadOnlySpan<byte> pattern, Span<byte> buffer)
    {
        var length = 0;
        var p = 0;
        while (p < pattern.Length && pattern[p] is not ((byte)'*' or (byte)'?' or (byte)'['))
        {
            buffer[length++] = TakeLiteral(pattern, ref p);
        }

        return length;
    }

    /// <summary>How long a buffer <see cref="RangeOf"/> needs for this pattern.</summary>
    public static int RangeBytes(ReadOnlySpan<byte> pattern) => (2 * pattern.Length) + 1;

    /// <summary>
    /// The smallest range from one key to another that holds every key the pattern can match. Ascending; set the
    /// direction and narrow it (PIVOT) as you need. An end is missing where matches have none (<c>*</c>, and prefixes of
    /// FF bytes only).
    /// </summary>
    /// <remarks>
    /// Up to the first star each element stands for one byte between a least and a greatest. The least ones together
    /// are the first possible key. Without a star the greatest ones together are the last possible key, and the end is
    /// the key right behind it; with a star it is the first key that does not begin with the greatest ones.
    /// A class that matches nothing gives an empty range: the end is there and equals the start.
    /// </remarks>
    /// <param name="buffer">At least <see cref="RangeBytes"/> long; the range's bounds point into it.</param>
    public static KeyRange RangeOf(ReadOnlySpan<byte> pattern, Span<byte> buffer)
    {
        var least = buffer[..pattern.Length];
        var greatest = buffer[pattern.Length..];
        var length = 0;
        var p = 0;
        while (p < pattern.Length && pattern[p] != '*')
        {
            if (pattern[p] is (byte)'?' or (byte)'[')
            {
                if (!TryTakeBounds(pattern, ref p, out least[length], out greatest[length]))
                {
                    return new KeyRange { Start = least[..length], End = least[..length], HasEnd = true };
                }
            }
            else
            {
                least[length] = TakeLiteral(pattern, ref p);
                greatest[length] = least[length];
            }

            length++;
        }

        if (p == pattern.Length)
        {
            greatest[length] = 0;
            return new KeyRange { Start = least[..length], End = greatest[..(length + 1)], HasEnd = true };
        }

        var end = greatest[..length].LastIndexOfAnyExcept((byte)0xFF);
        if (end < 0)
        {
            return new KeyRange { Start = least[..length] };
        }

        greatest[end]++;
        return new KeyRange { Start = least[..length], End = greatest[..(end + 1)], HasEnd = true };
    }

    /// <summary>Moves to the first place from <paramref name="k"/> on where what follows a star can begin.</summary>
    private static bool TrySeek(ReadOnlySpan<byte> pattern, int p, ReadOnlySpan<byte> key, ref int k)
    {
        if (!Special.Contains(pattern[p]))
        {
            var skip = key[k..].IndexOf(pattern[p]);
            k += Math.Max(skip, 0);
            return skip >= 0;
        }

        return k < key.Length;
    }

    /// <summary>Matches one element against one byte and moves behind the element.</summary>
    private static bool MatchesOne(ReadOnlySpan<byte> pattern, ref int p, byte value)
    {
        switch (pattern[p])
        {
            case (byte)'?':
                p++;
                return true;
            case (byte)'[':
                return MatchesClass(pattern, ref p, value);
            default:
                return TakeLiteral(pattern, ref p) == value;
        }
    }

    private static byte TakeLiteral(ReadOnlySpan<byte> pattern, ref int p)
    {
        if (pattern[p] == '\\' && p + 1 < pattern.Length)
        {
            p++;
        }

        return pattern[p++];
    }

    private static bool MatchesClass(ReadOnlySpan<byte> pattern, ref int p, byte value)
    {
        p++;
        var negated = p < pattern.Length && pattern[p] == '^';
        p += negated ? 1 : 0;
        var found = false;
        while (TryTakeClassItem(pattern, ref p, out var low, out var high))
        {
            found |= value >= low && value <= high;
        }

        return found != negated;
    }

    /// <summary>One byte or range of a class. False at the class's end, which is then behind <paramref name="p"/>.</summary>
    private static bool TryTakeClassItem(ReadOnlySpan<byte> pattern, ref int p, out byte low, out byte high)
    {
        low = 0;
        high = 0;
        var left = pattern.Length - p;
        if (left == 0)
        {
            return false;
        }

        if (pattern[p] == ']')
        {
            p++;
            return false;
        }

        if (left >= 2 && pattern[p] == '\\')
        {
            low = high = pattern[p + 1];
            p += 2;
        }
        else if (left >= 3 && pattern[p + 1] == '-')
        {
            low = Math.Min(pattern[p], pattern[p + 2]);
            high = Math.Max(pattern[p], pattern[p + 2]);
            p += 3;
        }
        else
        {
            low = high = pattern[p];
            p++;
        }

        return true;
    }

    /// <summary>The least and the greatest byte that <c>?</c> or a class matches; false when it matches none.</summary>
    private static bool TryTakeBounds(ReadOnlySpan<byte> pattern, ref int p, out byte least, out byte greatest)
    {
        least = 0;
        greatest = 0xFF;
        if (pattern[p] == '?')
        {
            p++;
            return true;
        }

        var start = p;
        var value = 0;
        while (value <= 0xFF && !MatchesClassAt(pattern, start, (byte)value, out p))
        {
            value++;
        }

        if (value > 0xFF)
        {
            return false;
        }

        least = (byte)value;
        value = 0xFF;
        while (!MatchesClassAt(pattern, start, (byte)value, out p))
        {
            value--;
        }

        greatest = (byte)value;
        return true;
    }

    private static bool MatchesClassAt(ReadOnlySpan<byte> pattern, int start, byte value, out int p)
    {
        p = start;
        return MatchesClass(pattern, ref p, value);
    }
}
