using System.Diagnostics;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace KvNode.Storage.Tests;

public sealed class KeyPatternTests
{
    private static readonly Config Seeded =
        Config.QuickThrowOnFailure.WithMaxTest(2000).WithReplay(20260101UL, 7919UL);

    // Few letters, so that matches are common; every byte with a meaning; and the bounds of a byte.
    private static readonly Gen<byte[]> PatternLike =
        Gen.Elements("aabbc-^[]\\**?"u8.ToArray().Append((byte)0).Append((byte)0x7F).Append((byte)0x80).Append((byte)0xFF).ToArray())
            .ArrayOf()
            .Resize(9);

    [Fact]
    public void EveryAnswerOfTheRealRedisIsOurs()
    {
        var keys = KeyPatternGolden.Keys.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(FromHex).ToArray();
        var compared = 0;
        foreach (var line in KeyPatternGolden.Answers.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = line.Trim().Split(' ');
            var pattern = FromHex(parts[0]);
            var matched = System.Numerics.BigInteger.Parse("0" + parts[1], System.Globalization.NumberStyles.HexNumber);
            for (var i = 0; i < keys.Length; i++)
            {
                var expected = ((matched >> i) & 1) == 1;
                Assert.True(
                    expected == KeyPattern.Matches(pattern, keys[i]),
                    $"pattern {parts[0]} key {Convert.ToHexString(keys[i])}: Redis says {expected}");
                compared++;
            }
        }

        Assert.Equal(640 * 192, compared);
    }

    [Theory]
    [InlineData("*", "", true)]
    [InlineData("**", "", true)]
    [InlineData("", "", true)]
    [InlineData("", "a", false)]
    [InlineData("?", "", false)]
    [InlineData("h?llo", "hello", true)]
    [InlineData("h*llo", "hllo", true)]
    [InlineData("h[ae]llo", "hillo", false)]
    [InlineData("h[^e]llo", "hallo", true)]
    [InlineData("h[a-b]llo", "hbllo", true)]
    [InlineData("a\\*b", "a*b", true)]
    [InlineData("a\\*b", "axb", false)]
    [InlineData("user:*:name", "user:1:2:name", true)]
    [InlineData("*ab", "aab", true)]
    [InlineData("*[ab]c", "abbc", true)]
    [InlineData("a*b*c", "abbbcb", false)]
    public void PatternsMatchAsInTheManual(string pattern, string key, bool expected) =>
        Assert.Equal(expected, KeyPattern.Matches(Encoding.Latin1.GetBytes(pattern), Encoding.Latin1.GetBytes(key)));

    [Fact]
    public void ARangeAcrossTheSignBitIsReadWithoutSign()
    {
        byte[] pattern = [(byte)'[', 0x01, (byte)'-', 0xFE, (byte)']'];

        Assert.True(KeyPattern.Matches(pattern, [0x7F]));
        Assert.True(KeyPattern.Matches(pattern, [0x80]));
        Assert.False(KeyPattern.Matches(pattern, [0x00]));
        Assert.False(KeyPattern.Matches(pattern, [0xFF]));
    }

    [Fact]
    public void MatchingAgreesWithANaiveMatcher() =>
        Prop.ForAll(PatternLike.ToArbitrary(), PatternLike.ToArbitrary(), (pattern, key) =>
            KeyPattern.Matches(pattern, key) == NaiveMatches(pattern, key)).Check(Seeded);

    [Fact]
    public void EveryMatchLiesInTheRangeAndHasThePrefix() =>
        Prop.ForAll(PatternLike.ToArbitrary(), PatternLike.ToArbitrary(), (pattern, key) =>
        {
            var prefix = new byte[pattern.Length];
            var prefixLength = KeyPattern.LiteralPrefix(pattern, prefix);
            return !KeyPattern.Matches(pattern, key)
                || (IsInRange(pattern, key) && key.AsSpan().StartsWith(prefix.AsSpan(0, prefixLength)));
        }).Check(Seeded);

    [Fact]
    public void TheRangeIsTheSmallest()
    {
        // All keys up to three bytes over the bytes that matter: the first and the last match must touch the bounds.
        byte[] letters = [0x00, 0x01, .. "abcd"u8, 0xFE, 0xFF];
        var keys = AllKeys(letters, 3);
        foreach (var text in (string[])["a", "ab", "a?", "?", "??", "[b-c]", "a[bc]", "[^a]", "[]", "a[]b", "[a-b][c-d]"])
        {
            var pattern = Encoding.Latin1.GetBytes(text);
            var matching = keys.Where(key => KeyPattern.Matches(pattern, key)).ToArray();
            var range = KeyPattern.RangeOf(pattern, new byte[KeyPattern.RangeBytes(pattern)]);
            if (matching.Length == 0)
            {
                Assert.True(range.HasEnd);
                Assert.True(range.Start.SequenceEqual(range.End));
                continue;
            }

            // Without a star the end is the key right behind the last match: that match and a zero byte.
            Assert.Equal(matching[0], range.Start.ToArray());
            Assert.Equal([.. matching[^1], 0], range.End.ToArray());
        }
    }

    [Theory]
    [InlineData("user:*", "user:", "user;")]
    [InlineData("user:[a-c]*", "user:a", "user:d")]
    [InlineData("a\\**", "a*", "a+")]
    [InlineData("a\u00FF*", "a\u00FF", "b")]
    [InlineData("key", "key", "key\0")]
    [InlineData("", "", "\0")]
    [InlineData("?*", "\0", null)]
    [InlineData("a?*", "a\0", "b")]
    [InlineData("*", "", null)]
    [InlineData("*a", "", null)]
    [InlineData("\u00FF*", "\u00FF", null)]
    [InlineData("\u00FF\u00FF*a", "\u00FF\u00FF", null)]
    [InlineData("[]*", "", "")]
    [InlineData("ab[]*", "ab", "ab")]
    public void RangesAreBoundedByWhatMatchesBeginWith(string pattern, string start, string? end)
    {
        var bytes = Encoding.Latin1.GetBytes(pattern);
        var range = KeyPattern.RangeOf(bytes, new byte[KeyPattern.RangeBytes(bytes)]);

        Assert.Equal(start, Encoding.Latin1.GetString(range.Start));
        Assert.Equal(end, range.HasEnd ? Encoding.Latin1.GetString(range.End) : null);
        Assert.False(range.Descending);
        Assert.False(range.StartExclusive);
    }

    [Theory]
    [InlineData("", "", true, false)]
    [InlineData("abc", "abc", true, false)]
    [InlineData("a\\*c", "a*c", true, false)]
    [InlineData("a\\", "a\\", true, false)]
    [InlineData("a]^-", "a]^-", true, false)]
    [InlineData("a*c", "a", false, false)]
    [InlineData("a\\\\?c", "a\\", false, false)]
    [InlineData("[a]bc", "", false, false)]
    [InlineData("*", "", false, true)]
    [InlineData("***", "", false, true)]
    [InlineData("**a", "", false, false)]
    [InlineData("\\*", "*", true, false)]
    public void LiteralPartsAreSeen(string pattern, string prefix, bool literal, bool all)
    {
        var bytes = Encoding.Latin1.GetBytes(pattern);
        var buffer = new byte[bytes.Length];

        Assert.Equal(prefix, Encoding.Latin1.GetString(buffer, 0, KeyPattern.LiteralPrefix(bytes, buffer)));
        Assert.Equal(literal, KeyPattern.IsLiteral(bytes));
        Assert.Equal(all, KeyPattern.MatchesAll(bytes));
    }

    [Theory]
    [InlineData("a*a*a*a*a*a*a*a*a*a*a*a*b", 10_000)]
    [InlineData("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", 10_000)]
    [InlineData("*[a]*[a]*[a]*[a]*[a]*[a]b", 10_000)]
    [InlineData("*?a*?a*?a*?a*?a*b", 10_000)]
    [InlineData("********************************b", 10_000)]
    [InlineData("*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 10_000)]
    public void AdversarialPatternsStayUnderTenMilliseconds(string pattern, int keyLength)
    {
        var bytes = Encoding.Latin1.GetBytes(pattern);
        var key = Enumerable.Repeat((byte)'a', keyLength).ToArray();

        // The quickest of many, so that a busy machine does not decide; exponential work would not end at all.
        var best = TimeSpan.MaxValue;
        for (var i = 0; i < 30 && best > TimeSpan.FromMilliseconds(10); i++)
        {
            var watch = Stopwatch.StartNew();
            Assert.False(KeyPattern.Matches(bytes, key));
            best = watch.Elapsed < best ? watch.Elapsed : best;
        }

        Assert.True(best <= TimeSpan.FromMilliseconds(10), $"took {best.TotalMilliseconds} ms");
    }

    [Fact]
    public void MatchingAllocatesNothing()
    {
        var pattern = "*a[b-d]?\\*x*"u8.ToArray();
        var key = "zzzaabq*xyz"u8.ToArray();
        var buffer = new byte[KeyPattern.RangeBytes(pattern)];
        Assert.True(KeyPattern.Matches(pattern, key));
        _ = KeyPattern.RangeOf(pattern, buffer);

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            _ = KeyPattern.Matches(pattern, key);
            _ = KeyPattern.RangeOf(pattern, buffer);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static bool IsInRange(byte[] pattern, byte[] key)
    {
        var range = KeyPattern.RangeOf(pattern, new byte[KeyPattern.RangeBytes(pattern)]);
        return range.Start.SequenceCompareTo(key) <= 0 && (!range.HasEnd || range.End.SequenceCompareTo(key) > 0);
    }

    private static List<byte[]> AllKeys(byte[] letters, int lengthMax)
    {
        List<byte[]> keys = [[]];
        for (int length = 1, first = 0; length <= lengthMax; length++)
        {
            var last = keys.Count;
            for (; first < last; first++)
            {
                keys.AddRange(letters.Select(letter => (byte[])[.. keys[first], letter]));
            }
        }

        keys.Sort((left, right) => left.AsSpan().SequenceCompareTo(right));
        return keys;
    }

    /// <summary>The definition, written as a recursion over both strings.</summary>
    private static bool NaiveMatches(ReadOnlySpan<byte> pattern, ReadOnlySpan<byte> key)
    {
        if (pattern.IsEmpty)
        {
            return key.IsEmpty;
        }

        if (pattern[0] == '*')
        {
            return NaiveMatches(pattern[1..], key) || (!key.IsEmpty && NaiveMatches(pattern, key[1..]));
        }

        if (key.IsEmpty)
        {
            return false;
        }

        var used = NaiveElement(pattern, key[0], out var matches);
        return matches && NaiveMatches(pattern[used..], key[1..]);
    }

    private static int NaiveElement(ReadOnlySpan<byte> pattern, byte value, out bool matches)
    {
        if (pattern[0] != '[')
        {
            var escaped = pattern[0] == '\\' && pattern.Length > 1;
            matches = pattern[0] == '?' || (escaped ? pattern[1] : pattern[0]) == value;
            return escaped ? 2 : 1;
        }

        var at = 1;
        var negated = pattern[at..].StartsWith("^"u8);
        at += negated ? 1 : 0;
        var members = new HashSet<int>();
        while (at < pattern.Length && pattern[at] != ']')
        {
            if (pattern[at] == '\\' && at + 1 < pattern.Length)
            {
                members.Add(pattern[at + 1]);
                at += 2;
            }
            else if (at + 2 < pattern.Length && pattern[at + 1] == '-')
            {
                var low = Math.Min(pattern[at], pattern[at + 2]);
                members.UnionWith(Enumerable.Range(low, Math.Abs(pattern[at] - pattern[at + 2]) + 1));
                at += 3;
            }
            else
            {
                members.Add(pattern[at++]);
            }
        }

        matches = members.Contains(value) != negated;
        return Math.Min(at + 1, pattern.Length);
    }

    private static byte[] FromHex(string word) => word == "-" ? [] : Convert.FromHexString(word);
}
