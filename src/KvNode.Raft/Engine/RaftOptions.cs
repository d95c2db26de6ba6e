namespace KvNode.Raft.Engine;

/// <summary>What an engine needs to know. Sizes are in bytes.</summary>
public sealed record RaftOptions
{
    /// <summary>Directory of the log; the segments are in its sub-directory <c>wal</c>. The host holds its lock.</summary>
    public required string LogDirectory { get; init; }

    /// <summary>Directory of the identity file. The host holds its lock.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>Where clients and other nodes reach this one, as HOST:PORT.</summary>
    public required string Address { get; init; }

    /// <summary>A member of the cluster to join, as HOST:PORT, or <see cref="WaitToBeAdded"/>; null: a new directory becomes
    /// a new cluster. Without effect on a node that is in a cluster.</summary>
    public string? Join { get; init; }

    /// <summary>In the place of a member to join: an empty node waits until a leader takes it in.</summary>
    public const string WaitToBeAdded = "wait";

    public Durability Durability { get; init; } = Durability.High;

    public FollowerMode Follower { get; init; } = FollowerMode.Forward;

    /// <summary>How long a batch waits for a leader.</summary>
    public TimeSpan LeaderWait { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Silence of the leader's after which another is elected; twice as long at most.</summary>
    public TimeSpan ElectionTimeout { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Size of a log segment, a multiple of 512.</summary>
    public long SegmentBytes { get; init; } = 64 << 20;

    /// <summary>Log kept for members that are behind; beyond it they get a snapshot.</summary>
    public long LogBytesMax { get; init; } = 1 << 30;

    /// <summary>When the log is synced under <see cref="Durability.Medium"/>.</summary>
    public TimeSpan SyncInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Applies within the turn when nothing else waits for it.</summary>
    internal bool ApplyInline { get; init; } = true;

    /// <summary>An entry takes batches until it has this much; one larger batch is an entry by itself.</summary>
    internal int EntryBytesSoft { get; init; } = 1 << 20;

    /// <summary>Batches wait while more than this is in the leader's log and not applied.</summary>
    internal long UncommittedBytesMax { get; init; } = 64 << 20;

    /// <summary>How often a full disk is tried again.</summary>
    public TimeSpan ResumeInterval { get; init; } = TimeSpan.FromMilliseconds(250);
}
