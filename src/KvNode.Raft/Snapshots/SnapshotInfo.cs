namespace KvNode.Raft.Snapshots;

/// <summary>What is known of one complete snapshot on disk: its <c>meta.json</c>.</summary>
public sealed record SnapshotInfo
{
    /// <summary>The directory's name, <c>term-index-milliseconds</c>.</summary>
    public required string Id { get; init; }

    /// <summary>The state is exactly what the log gives up to here.</summary>
    public required EntryId Position { get; init; }

    /// <summary>When it was made, by this node's clock (or later, where two would have had the same name).</summary>
    public required long UnixMs { get; init; }

    /// <summary>Bytes of <c>state.bin</c>.</summary>
    public required long Size { get; init; }

    /// <summary>CRC-64/XZ of <c>state.bin</c> as stored.</summary>
    public required ulong Crc { get; init; }

    /// <summary>Keys in it; null when the original kvnode wrote it, which did not count.</summary>
    public required long? Count { get; init; }

    /// <summary>Addresses of the cluster's members.</summary>
    public required IReadOnlyList<string> Members { get; init; }

    /// <summary>Version of the files' format; 0 when the original kvnode wrote them.</summary>
    public required int Format { get; init; }
}

/// <summary>What a look at one snapshot directory found.</summary>
/// <param name="Id">The directory's name.</param>
/// <param name="Problem">Why it must not be trusted; null when everything agrees.</param>
/// <param name="Info">What its meta.json says, when that could be read.</param>
public sealed record SnapshotCheck(string Id, string? Problem, SnapshotInfo? Info);

/// <summary>A snapshot's <c>meta.json</c> or directory cannot be trusted. The message is for people.</summary>
public sealed class SnapshotInvalidException(string message, Exception? cause = null) : IOException(message, cause);
