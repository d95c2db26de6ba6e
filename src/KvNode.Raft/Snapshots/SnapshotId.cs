using System.Globalization;

namespace KvNode.Raft.Snapshots;

/// <summary>A snapshot's name: <c>term-index-milliseconds</c>, three decimal numbers without leading zeros.</summary>
internal readonly record struct SnapshotId(EntryId Position, long UnixMs)
{
    /// <summary>Beyond this a time is a mistake (year 9999), and must not push later names beyond all
    /// numbers.</summary>
    private const long UnixMsMax = 253_402_300_799_999;

    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Position.Term}-{Position.Index}-{UnixMs}");

    /// <summary>Accepts exactly what <see cref="ToString"/> gives.</summary>
    public static bool TryParse(string text, out SnapshotId id)
    {
        id = default;
        var parts = text.Split('-');
        if (parts.Length != 3
            || !ulong.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out var term)
            || !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var index)
            || !long.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out var unixMs)
            || unixMs > UnixMsMax)
        {
            return false;
        }

        id = new SnapshotId(new EntryId(term, index), unixMs);
        return id.ToString() == text;
    }

    /// <summary>Orders by age: the further in the log the later; the clock only decides between equals.</summary>
    public static int Compare(SnapshotId left, SnapshotId right)
    {
        var order = left.Position.Term.CompareTo(right.Position.Term);
        if (order == 0)
        {
            order = left.Position.Index.CompareTo(right.Position.Index);
        }

        return order == 0 ? left.UnixMs.CompareTo(right.UnixMs) : order;
    }
}
