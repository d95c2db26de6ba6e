namespace KvNode.Raft;

/// <summary>Where an entry stands in the log. Two numbers that are easily mixed up, so they travel together.</summary>
/// <param name="Term">The leader's term that created the entry. PERSISTED.</param>
/// <param name="Index">Position in the log, from 1. 0 means "before the first entry". PERSISTED.</param>
public readonly record struct EntryId(ulong Term, ulong Index)
{
    public override string ToString() => $"{Index}@{Term}";
}

/// <summary>What an entry's payload is. PERSISTED: the numbers are never reused.</summary>
public enum EntryKind : byte
{
    /// <summary>A batch of the host's commands, opaque to the engine.</summary>
    Normal = 1,

    /// <summary>No payload; a leader's first entry in its term.</summary>
    Empty = 2,

    /// <summary>A membership change.</summary>
    Configuration = 3,
}

/// <summary>One committed entry, on its way into the state machine.</summary>
/// <param name="Payload">What was proposed. Valid only during the Apply call.</param>
/// <param name="Batch">The proposal, when it was made on this node in this process; null on replay and on other nodes.
/// The state machine writes the results into it.</param>
public readonly record struct CommittedEntry(
    EntryId Id, EntryKind Kind, ReadOnlyMemory<byte> Payload, ProposalBatch? Batch);

/// <summary>How a proposal ended.</summary>
public enum ProposalStatus
{
    /// <summary>Durable on a quorum and applied here; the results are in the batch.</summary>
    Committed,

    /// <summary>Certainly not executed: this node is not the leader.</summary>
    NotLeader,

    /// <summary>Certainly not executed: refused before it reached the log; <see cref="ProposalOutcome.Reason"/> says why
    /// (for example the disk is full).</summary>
    Dropped,

    /// <summary>It may or may not take effect later.</summary>
    Unknown,

    /// <summary>Certainly not executed: no leader was there for as long as a batch may wait.</summary>
    NoLeader,

    /// <summary>Certainly not executed, now or later: a later batch of this node's took effect, and a leader lost this one.</summary>
    Superseded,
}

/// <param name="LeaderHint">Client address of the leader, when known and when not this node.</param>
/// <param name="Reason">For people, without prefix; null when committed.</param>
public readonly record struct ProposalOutcome(ProposalStatus Status, string? LeaderHint = null, string? Reason = null);

/// <summary>How fresh a read must be.</summary>
public enum ReadLevel
{
    /// <summary>Whatever this node has applied.</summary>
    Local,

    /// <summary>The leader's state, trusting its lease.</summary>
    LeaderLease,

    /// <summary>Everything that was acknowledged anywhere before the read began.</summary>
    Linearizable,
}

/// <param name="Outcome">Committed: the read may be served. Otherwise why this node may not serve it at this level now.</param>
/// <param name="AppliedIndex">The read will see at least this index.</param>
public readonly record struct ReadBarrier(ProposalOutcome Outcome, ulong AppliedIndex)
{
    public bool Ok => Outcome.Status == ProposalStatus.Committed;
}

public enum RaftRole
{
    Follower,
    Candidate,
    Leader,
    Shutdown,
}

/// <param name="Id">The node's number in the cluster; the address is only data.</param>
public readonly record struct RaftMember(ulong Id, string Address, bool Voter, RaftRole? Role);

/// <summary>What a node knows of itself at one moment.</summary>
public sealed record NodeStatus
{
    public required ulong NodeId { get; init; }

    /// <summary>0: in no cluster yet.</summary>
    public ulong ClusterId { get; init; }
    public required RaftRole Role { get; init; }
    public required ulong Term { get; init; }

    /// <summary>Client address of the leader; null when unknown.</summary>
    public required string? LeaderAddress { get; init; }

    /// <summary>Node id of the leader; 0 when unknown.</summary>
    public ulong LeaderId { get; init; }
    public required ulong CommitIndex { get; init; }
    public required ulong AppliedIndex { get; init; }

    /// <summary>Last index known to be on this node's disk.</summary>
    public required ulong DurableIndex { get; init; }
    public required EntryId LastLog { get; init; }

    /// <summary>First index still in the log.</summary>
    public required ulong FirstLogIndex { get; init; }
    public required EntryId LastSnapshot { get; init; }
    public required IReadOnlyList<RaftMember> Members { get; init; }

    /// <summary>Bytes of log on disk, spare segments included.</summary>
    public required long LogBytes { get; init; }

    /// <summary>Why writes are refused now (for example the log's disk is full); null when they are accepted.</summary>
    public required string? WriteRefusal { get; init; }
}

/// <summary>Counters since start. Read without a lock: each is true by itself, not with the others.</summary>
/// <param name="Entries">Entries appended.</param>
/// <param name="Proposals">Commands in them are the host's business; this counts batches accepted.</param>
/// <param name="Syncs">fdatasync calls on the log.</param>
/// <param name="SyncMicroseconds">Time spent in them, summed.</param>
/// <param name="SyncMicrosecondsMax">The longest one.</param>
/// <param name="LogBytesWritten">Bytes written to the log.</param>
public readonly record struct EngineMetrics(
    long Entries, long Proposals, long Syncs, long SyncMicroseconds, long SyncMicrosecondsMax, long LogBytesWritten);

/// <summary>What an engine can do; host commands answer "unsupported" by these instead of failing half-way.</summary>
[Flags]
public enum EngineCapabilities
{
    None = 0,
    DurableAck = 1,
    Learners = 2,
    JointChange = 4,
    TargetedTransfer = 8,
    LeaseRead = 16,
    FollowerLinearizableRead = 32,
    MembershipChange = 64,
}

/// <summary>When the log is synced.</summary>
public enum Durability
{
    /// <summary>fdatasync before every acknowledgement.</summary>
    High,

    /// <summary>fdatasync once a second.</summary>
    Medium,

    /// <summary>Left to the operating system.</summary>
    Low,
}

public enum MembershipChangeKind
{
    AddLearner,
    AddVoter,
    Promote,
    Demote,
    Remove,
}

public readonly record struct MembershipChange(MembershipChangeKind Kind, ulong NodeId, string Address);

/// <param name="Detail">On success what was done (for a snapshot: its id); on failure the reason, for people.</param>
public readonly record struct AdminOutcome(bool Ok, string Detail);

public readonly record struct LeaderChange(ulong Term, string? LeaderAddress, bool IsSelf);
