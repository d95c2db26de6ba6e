namespace KvNode.Storage;

/// <summary>How the disk half of the store is opened. The defaults are for a server; tests shrink the map.</summary>
internal sealed record DiskOptions
{
    /// <summary>Address space asked for first. Costs nothing but addresses; halved until it fits.</summary>
    public long MapBytes { get; init; } = 1L << 40;

    /// <summary>Below this, or below twice the file, opening fails rather than starting with a map soon full.</summary>
    public long MapBytesFloor { get; init; } = 16L << 30;

    /// <summary>Most readers that may be rented at one time. One slot of lock.mdb (64 bytes) each.</summary>
    public int ReadersMax { get; init; } = 4096;

    /// <summary>How long growing the map waits for readers to come back before it gives up for this time.</summary>
    public TimeSpan GrowWaitMax { get; init; } = TimeSpan.FromSeconds(10);
}

/// <summary>Size and use of the disk half, for INFO. Numbers are of one moment, not of one instant.</summary>
internal readonly record struct DiskStatistics
{
    /// <summary>Length of data.mdb.</summary>
    public required long FileBytes { get; init; }

    /// <summary>Part of the file that ever held a page, used or free; the rest is a hole left by an aborted write.</summary>
    public required long UsedBytes { get; init; }

    /// <summary>Address space mapped.</summary>
    public required long MapBytes { get; init; }

    /// <summary>LMDB records of user keys, links and chunks included.</summary>
    public required long Records { get; init; }

    /// <summary>Readers rented now.</summary>
    public required int ReadersInUse { get; init; }
}

/// <summary>The directory holds something this program must not touch: another program's data or an unknown format.</summary>
public sealed class DiskFormatException(string message) : IOException(message);
