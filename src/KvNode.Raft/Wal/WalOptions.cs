namespace KvNode.Raft.Wal;

/// <summary>Sizes of a log.</summary>
internal sealed record WalOptions
{
    /// <summary>Size of an ordinary segment, a multiple of the sector.</summary>
    public long SegmentBytes { get; init; } = 64 << 20;

    /// <summary>On a nearly full disk segments get smaller, but not smaller than this (or an ordinary one).</summary>
    public long SegmentBytesMin { get; init; } = 256 << 10;

    /// <summary>Retired segments kept to be filled with zeros and used again.</summary>
    public int SparesMax { get; init; } = 2;

    /// <summary>Segments are prepared by a thread of their own. Off in tests that must be deterministic.</summary>
    public bool Background { get; init; } = true;
}
