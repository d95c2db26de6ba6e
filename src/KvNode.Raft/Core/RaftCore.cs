namespace KvNode.Raft.Core;

internal enum CoreRole : byte
{
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

internal enum ProposeResult
{
    Accepted,

    /// <summary>Not the leader, or a leader that is no longer a member.</summary>
    NotLeader,

    /// <summary>Leadership is being handed over.</summary>
    Transferring,

    /// <summary>Too much is uncommitted: try again when something has been applied.</summary>
    Full,

    /// <summary>A configuration change is not possible now; nothing was appended.</summary>
    Refused,
}

/// <summary>What the leader knows of one peer. For status and tests.</summary>
internal enum PeerState : byte
{
    Probe,
    Replicate,
    Snapshot,
}

internal readonly record struct PeerView(
    ulong Id, PeerState State, ulong Match, ulong Next, bool RecentlyActive, bool Paused, ulong PendingSnapshot);

/// <summary>
/// One node's Raft: everything that decides, nothing that acts. Inputs are method calls; what is to be done about them
/// comes out of <see cref="TakeReady"/>. Deterministic: no clock, input or output, task, lock or randomness but the seed's.
/// </summary>
/// <remarks>One thread. A broken invariant throws; the driver stops the process.</remarks>
internal sealed class RaftCore
{
    public RaftCore(CoreOptions options, InitialState state) => throw new NotSupportedException();

    public ulong NodeId => throw new NotSupportedException();

    public CoreRole Role => throw new NotSupportedException();

    public ulong Term => throw new NotSupportedException();

    /// <summary>Who got this node's vote in the term; 0 for nobody.</summary>
    public ulong Vote => throw new NotSupportedException();

    /// <summary>0 when unknown.</summary>
    public ulong Leader => throw new NotSupportedException();

    public ulong Commit => throw new NotSupportedException();

    /// <summary>As reported by <see cref="OnApplied"/>.</summary>
    public ulong Applied => throw new NotSupportedException();

    /// <summary>Last index known to be on this node's disk.</summary>
    public ulong Durable => throw new NotSupportedException();

    /// <summary>The configuration in force: as of what has been applied.</summary>
    public Membership Membership => throw new NotSupportedException();

    public RaftLog Log => throw new NotSupportedException();

    /// <summary>Target of a pending leadership transfer; 0 for none.</summary>
    public ulong TransferTarget => throw new NotSupportedException();

    /// <summary>Leader only, else empty. Allocates.</summary>
    public IReadOnlyList<PeerView> Peers => throw new NotSupportedException();

    /// <summary>An entry of this term is committed: reads are possible.</summary>
    public bool HasCommittedInTerm => throw new NotSupportedException();

    /// <summary>One unit of time has passed.</summary>
    public void Tick() => throw new NotSupportedException();

    /// <summary>The driver's monotonic clock in nanoseconds, for leases. Called before inputs; never goes back.</summary>
    public void SetClock(long nanoseconds) => throw new NotSupportedException();

    /// <summary>A message arrived. One that cannot be right (foreign receiver, non-member's acks) changes nothing.</summary>
    public void Step(in Message message) => throw new NotSupportedException();

    /// <summary>Appends an entry on the leader.</summary>
    public ProposeResult Propose(EntryKind kind, ReadOnlyMemory<byte> payload, out EntryId id) => throw new NotSupportedException();

    /// <summary>Appends a configuration change on the leader; refused (with a reason for people) while another is pending,
    /// not applied, or where it makes no sense. One already in force is refused too, as such.</summary>
    public ProposeResult ProposeChange(ConfigurationChange change, out EntryId id, out string? refusal) => throw new NotSupportedException();

    /// <summary>Asks for a linearizable read. The answer comes as a <see cref="ReadState"/>; false: no leader known, no answer
    /// will come. After a change of leader outstanding ones are answered with Ok = false.</summary>
    public bool ReadIndex(ulong context) => throw new NotSupportedException();

    /// <summary>Leader: the index that a read may be served at now by lease, if the lease holds at the time last set.</summary>
    public bool TryLeaseRead(out ulong index) => throw new NotSupportedException();

    /// <summary>Hands leadership over (on a follower: asks the leader to). No effect towards itself, learners, strangers.</summary>
    public void TransferLeader(ulong target) => throw new NotSupportedException();

    /// <summary>Starts an election now, as if the timeout had passed.</summary>
    public void Campaign() => throw new NotSupportedException();

    /// <summary>Steps down without a successor, for a leader that cannot write. Does not campaign for two election timeouts.</summary>
    public void Resign() => throw new NotSupportedException();

    public void Withdraw(ulong fromIndex, ulong persistSequence) => throw new NotSupportedException();

    public void ForgetLeader() => throw new NotSupportedException();

    /// <summary>The connection to a peer broke: what was sent may be lost.</summary>
    public void ReportUnreachable(ulong peer) => throw new NotSupportedException();

    /// <summary>How a snapshot transfer ended.</summary>
    public void ReportSnapshot(ulong peer, EntryId position, bool ok) => throw new NotSupportedException();

    /// <summary>Everything up to this <see cref="PersistRequest.Sequence"/> is durable.</summary>
    public void OnPersisted(ulong sequence) => throw new NotSupportedException();

    /// <summary>The state machine holds everything up to this index. Configuration entries in it come into force.</summary>
    public void OnApplied(ulong index) => throw new NotSupportedException();

    /// <summary>
    /// Follower: a snapshot was received and checked, and the state machine can swap to it. When it is newer than what is
    /// committed, the log restarts there, <see cref="PersistRequest.Snapshot"/> says so, and it counts as applied when
    /// persisted. False: not needed (older than the commit index), nothing changes.
    /// </summary>
    public bool OnSnapshotReceived(ulong leader, ulong term, EntryId position, Membership membership) => throw new NotSupportedException();

    /// <summary>Answer to a fetch; empty when it failed. The entries may be fewer than asked for.</summary>
    public void OnFetched(ulong peer, ReadOnlyMemory<LogEntry> entries) => throw new NotSupportedException();

    /// <summary>What is to be done since the last call. The same object every time.</summary>
    public Ready TakeReady() => throw new NotSupportedException();
}
