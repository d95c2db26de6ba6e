namespace KvNode.Raft.Wal;

/// <summary>A segment that has frames (or at least a header).</summary>
/// <param name="IndexMax">The highest index of an entry written in it, void or not; 0 when it has none.</param>
internal readonly record struct UsedSegment(ulong Id, long Bytes, SegmentHeader Header, ulong IndexMax);

/// <summary>A snapshot marker in the log.</summary>
/// <param name="Index">The snapshot's.</param>
/// <param name="Segment">Where the marker stands: what is in earlier segments is void.</param>
/// <param name="Sequence">Its frame.</param>
internal readonly record struct MarkerPlace(ulong Index, ulong Segment, ulong Sequence);

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

    /// <summary>Which entries there are and where, as it was when the log was looked at.</summary>
    public LogMap Map { get; } = new();

    /// <summary>What the log says at its end.</summary>
    public LogState State { get; set; }

    /// <summary>The last entry; <see cref="BeforeFirst"/> if there is none.</summary>
    public EntryId Last => State.Last;

    public HardState HardState => State.HardState;

    /// <summary>Entries up to this index were committed. There may have been more: it is written lazily.</summary>
    public ulong Commit => State.Commit;

    /// <summary>The newest snapshot marker; default when there is none.</summary>
    public MarkerPlace Marker { get; set; }

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

    /// <summary>Entries in all used segments, void ones among them.</summary>
    public long EntriesWritten { get; set; }

    /// <summary>Entries that the log has.</summary>
    public ulong Entries => Last.Index - BeforeFirst.Index;

    /// <summary>What was cut off the end and why; null if nothing.</summary>
    public string? TornTail { get; set; }

    /// <summary>Index of the first entry still there (or the next one, if none is).</summary>
    public ulong FirstIndex => BeforeFirst.Index + 1;

    /// <summary>The last entry that is not there any more: given up, or a received snapshot's.</summary>
    public EntryId BeforeFirst => Map.BeforeFirst;

    /// <summary>The first entry of each run of equal terms that is still there, in order.</summary>
    public IReadOnlyList<EntryId> TermRuns => Map.TermRuns;

    /// <summary>Whether the log has exactly this entry, or begins right after it.</summary>
    public bool Contains(EntryId entry) => Map.Contains(entry);
}
