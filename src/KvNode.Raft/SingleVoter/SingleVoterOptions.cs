namespace KvNode.Raft.SingleVoter;

/// <summary>What a single-voter engine needs to know. Sizes are in bytes.</summary>
public sealed record SingleVoterOptions
{
    /// <summary>
    /// Directory of the log; the segments are in its sub-directory <c>wal</c>. The host holds its lock.
    /// </summary>
    public required string LogDirectory { get; init; }

    /// <summary>Client address of this node, for status answers.</summary>
    public required string Address { get; init; }

    public ulong NodeId { get; init; } = 1;

    public Durability Durability { get; init; } = Durability.High;

    /// <summary>Size of a log segment, a multiple of 512.</summary>
    public long SegmentBytes { get; init; } = 64 << 20;

    /// <summary>A frame takes proposals until it has this much; one larger proposal is a frame by itself.</summary>
    public long FrameBytesMax { get; init; } = 1 << 20;

    /// <summary>Payload that may wait between log and state machine; above it the log thread waits.</summary>
    public long ApplyBytesMax { get; init; } = 16 << 20;

    /// <summary>When the log is synced under <see cref="Durability.Medium"/>.</summary>
    public TimeSpan SyncInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How often a full disk is tried again.</summary>
    public TimeSpan ResumeInterval { get; init; } = TimeSpan.FromMilliseconds(250);

    /// <summary>
    /// Applies on the log's thread when no other proposal waits: saves a thread hand-over when there is nothing to
    /// overlap with.
    /// </summary>
    public bool ApplyInlineWhenIdle { get; init; } = true;
}
