using System.Globalization;
using KvNode.Raft;

namespace KvNode.Server.Hosting;

/// <summary>The kinds of value a setting may have. Each answers null or what is wrong, in words for people.</summary>
internal static class ValueParsers
{
    public static string? Text(string text, out string value)
    {
        value = text;
        return null;
    }

    public static string? Path(string text, out string value)
    {
        value = text;
        return text.Length == 0 ? "the path is empty" : null;
    }

    /// <summary>Empty, or an address with a host.</summary>
    public static string? OptionalAddress(string text, out string value)
    {
        value = text;
        if (text.Length == 0 || ListenAddress.TryParse(text, out _) is not { } problem)
        {
            return text is [':', ..] ? $"'{text}' has no host" : null;
        }

        return problem;
    }

    public static string? Follower(string text, out FollowerReply value) =>
        OneOf(
            text,
            out value,
            [("forward", FollowerReply.Forward), ("try", FollowerReply.Try), ("moved", FollowerReply.Moved)]);

    /// <summary>A whole number within bounds, both allowed.</summary>
    public static ValueParser<int> Number(Bounds bounds) => (string text, out int value) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) && bounds.Hold(value)
            ? null
            : $"'{text}' is not a whole number from {bounds.Min} to {bounds.Max}";

    /// <summary>
    /// A number of bytes within bounds, both allowed, with one of Redis's units or none: <c>k</c>, <c>m</c>, <c>g</c>
    /// are powers of 1000; <c>kb</c>, <c>mb</c>, <c>gb</c> (and <c>kib</c>, <c>mib</c>, <c>gib</c>) powers of 1024.
    /// </summary>
    public static ValueParser<int> Size(Bounds bounds) => (string text, out int value) =>
    {
        value = 0;
        var digits = 0;
        while (digits < text.Length && char.IsAsciiDigit(text[digits]))
        {
            digits++;
        }

        if (!long.TryParse(text.AsSpan(0, digits), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            || UnitBytes(text[digits..]) is not { } unit
            || number > long.MaxValue / unit)
        {
            return $"'{text}' is not a size such as 1048576, 512kb or 64mb";
        }

        var bytes = number * unit;
        if (!bounds.Hold(bytes))
        {
            return $"'{text}' is not between {SizeText(bounds.Min)} and {SizeText(bounds.Max)}";
        }

        value = (int)bytes;
        return null;
    };

    public static string? Consistency(string text, out ReadLevel value) =>
        OneOf(text, out value, [("low", ReadLevel.Local), ("medium", ReadLevel.LeaderLease), ("high", ReadLevel.Linearizable)]);

    public static string? Durability(string text, out Durability value) =>
        OneOf(
            text,
            out value,
            [("low", Raft.Durability.Low), ("medium", Raft.Durability.Medium), ("high", Raft.Durability.High)]);

    public static string? Level(string text, out LogLevel value) =>
        OneOf(
            text,
            out value,
            [("debug", LogLevel.Debug), ("info", LogLevel.Information), ("warning", LogLevel.Warning), ("error", LogLevel.Error)]);

    public static string? Format(string text, out LogFormat value) =>
        OneOf(text, out value, [("text", LogFormat.Text), ("json", LogFormat.Json)]);

    public static string? Snapshot(string text, out SnapshotDialect value) =>
        OneOf(
            text,
            out value,
            [("auto", SnapshotDialect.Auto), ("kvnode", SnapshotDialect.KvNode), ("bitraft", SnapshotDialect.Bitraft)]);

    /// <summary>The size in the largest unit that divides it, as it would be typed.</summary>
    public static string SizeText(long bytes) => bytes switch
    {
        > 0 when bytes % (1 << 30) == 0 => $"{bytes >> 30}gb",
        > 0 when bytes % (1 << 20) == 0 => $"{bytes >> 20}mb",
        > 0 when bytes % (1 << 10) == 0 => $"{bytes >> 10}kb",
        _ => bytes.ToString(CultureInfo.InvariantCulture),
    };

    private static long? UnitBytes(string unit) => unit.ToUpperInvariant() switch
    {
        "" or "B" => 1,
        "K" => 1_000,
        "KB" or "KIB" => 1L << 10,
        "M" => 1_000_000,
        "MB" or "MIB" => 1L << 20,
        "G" => 1_000_000_000,
        "GB" or "GIB" => 1L << 30,
        _ => null,
    };

    /// <summary>Case does not matter; as in the original, <c>med</c> is short for <c>medium</c>.</summary>
    private static string? OneOf<T>(string text, out T value, ReadOnlySpan<(string Word, T Value)> choices)
    {
        var word = text.Equals("med", StringComparison.OrdinalIgnoreCase) ? "medium" : text;
        var words = "";
        foreach (var choice in choices)
        {
            if (word.Equals(choice.Word, StringComparison.OrdinalIgnoreCase))
            {
                value = choice.Value;
                return null;
            }

            words += words.Length == 0 ? choice.Word : ", " + choice.Word;
        }

        value = default!;
        return $"'{text}' is none of {words}";
    }
}
