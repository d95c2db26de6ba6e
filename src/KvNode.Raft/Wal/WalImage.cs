namespace KvNode.Raft.Wal;

/// <summary>A segment that has frames (or at least a header).</summary>
/// <param name="Last">The log's last entry at the segment's end; equal to the header's when it has none.</param>
internal readonly record struct UsedSegment(ulong Id, long Bytes, SegmentHeader Header, EntryId Last);

/// <summary>A segment file whose header is zero: prepared, not used yet.</summary>
/// <param name="DirtyEnd">End of the bytes in it that are not zero; 0 when it is clean.</param>
internal readonly record struct BlankSegment(ulong Id, long Bytes, long DirtyEnd);

/// <summary>What <see cref="WalRecovery.Inspect"/> found on disk.</summary>
internal sealed class WalImage
{
    /// <summary>In order; empty for a log that was never written to.</summary>
    public List<UsedSegment> Used { get; } = [];

    /// <summary>In order, following the used ones.</summary>
    public List<BlankSegment> Blank { get; } = [];

    /// <summary>Ids of files to be filled with zeros and used again.</summary>
    public List<ulong> Spares { get; } = [];

    /// <summary>Unfinished files.</summary>
    public List<ulong> Drafts { get; } = [];

    public ulong LogId { get; set; }

    /// <summary>The last entry; index 0 if there is none.</summary>
    public EntryId Last { get; set; }

    public HardState HardState { get; set; }

    /// <summary>The next frame's sequence number.</summary>
    public ulong NextSequence { get; set; } = 1;

    /// <summary>The next frame's chain.</summary>
    public uint Chain { get; set; }

    /// <summary>Where the last used segment ends.</summary>
    public long End { get; set; }

    /// <summary>
    /// In the last used segment, frames from here to <see cref="End"/> may be in the page cache only, even when their
    /// sync was tried: a sync that failed is forgotten by the kernel.
    /// </summary>
    public long UnprovenFrom { get; set; }

    /// <summary>
    /// End of the bytes behind <see cref="End"/> that are not zero; equal to it when the tail is clean.
    /// </summary>
    public long DirtyEnd { get; set; }

    /// <summary>Sound frames in all used segments.</summary>
    public long Frames { get; set; }

    /// <summary>Entries in all used segments.</summary>
    public long Entries { get; set; }

    /// <summary>What was cut off the end and why; null if nothing.</summary>
    public string? TornTail { get; set; }

    /// <summary>Index of the first entry still there (or the next one, if none is).</summary>
    public ulong FirstIndex => Used.Count == 0 ? 1 : Used[0].Header.Previous.Index + 1;

    /// <summary>The last entry that is not there any more.</summary>
    public EntryId BeforeFirst => Used.Count == 0 ? default : Used[0].Header.Previous;
}
