namespace KvNode.Raft;

/// <summary>
/// Agrees on an order of opaque payloads and feeds them, durable and in order, to a state machine.
/// </summary>
/// <remarks>
/// The unit of proposal is one batch = one log entry. Engines differ in what they can do
/// (<see cref="Capabilities"/>), never in this: a batch that ends <see cref="ProposalStatus.Committed"/> is on the
/// disks of a quorum and has been applied here. All members may be called from any thread unless they say otherwise.
/// </remarks>
public interface IConsensusEngine : IAsyncDisposable
{
    /// <summary>Recovers the log, replays what the machine has not applied, then starts serving. Called once.</summary>
    /// <exception cref="LogCorruptException">The log is damaged in a way that may have lost acknowledged entries.</exception>
    ValueTask StartAsync(IReplicatedStateMachine machine, CancellationToken cancellationToken);

    /// <summary>
    /// Offers a batch. Returns at once; the engine calls <see cref="ProposalBatch.Seal"/> when it appends the entry
    /// (until then the proposer may still add to it) and <see cref="ProposalBatch.Complete"/> when all is over, after
    /// Apply on this node. Batches offered one after another are appended in that order.
    /// </summary>
    void Propose(ProposalBatch batch);

    /// <summary>True when a read that begins now may be served from this node's applied state at once.</summary>
    bool CanReadLocally(ReadLevel level);

    /// <summary>Completes (usually at once) when a read may be served from this node's applied state.</summary>
    ValueTask<ReadBarrier> ReadBarrierAsync(ReadLevel level);

    NodeStatus Status { get; }

    EngineMetrics Metrics { get; }

    EngineCapabilities Capabilities { get; }

    /// <summary>Raised off the hot path.</summary>
    event Action<LeaderChange>? LeaderChanged;

    /// <summary>
    /// Adds, promotes, demotes or removes a node; on any node, which asks the leader. A node to be added is asked at its
    /// address who it is: it must be empty and wait, or be about to join. It learns first; one added as a voter is promoted
    /// when it has caught up. What could cost the cluster its majority is refused.
    /// </summary>
    ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change);

    /// <summary>Puts the node at an address in the place of a member, in one step of the configuration, once it has caught up.</summary>
    /// <param name="member">Id or address of the member that goes.</param>
    ValueTask<AdminOutcome> ReplaceMemberAsync(string member, string address);

    /// <summary>Completes when another node leads.</summary>
    /// <param name="target">Id or address; null for the voter that has most of the log.</param>
    ValueTask<AdminOutcome> TransferLeadershipAsync(string? target);

    /// <summary>Writes a backup of the state machine to the snapshot directory.</summary>
    ValueTask<AdminOutcome> SnapshotNowAsync();

    /// <summary>Makes the applied state durable and drops the log it covers, as far as whole segments allow.</summary>
    ValueTask<AdminOutcome> ShrinkLogAsync();

    /// <summary>
    /// Makes every entry up to <paramref name="index"/> durable in this node's log, at once when it already is. The
    /// state machine calls it before it makes applied state durable, so that the store is never ahead of the log.
    /// Blocks the caller. Not for the engine's own threads.
    /// </summary>
    void EnsureLogDurable(ulong index);
}

/// <summary>
/// One log entry in the making: the host fills it until the engine seals it. One that is empty then holds only reads: it is
/// not logged, and completes, in its place among this node's batches, when everything that had been acknowledged before it
/// was proposed is applied here.
/// </summary>
public abstract class ProposalBatch
{
    /// <summary>
    /// Closes the batch: the proposer adds nothing after this. Called once, by the engine's thread, just before the
    /// entry gets its index. The bytes belong to the batch and stay valid and unchanged until the outcome is given.
    /// </summary>
    public abstract ReadOnlyMemory<byte> Seal();

    /// <summary>Of a sealed batch that holds only reads: no other work of the engine's should wait for them. Any thread.</summary>
    public virtual bool ReadsAreLong => false;

    /// <summary>
    /// Tells the host how it ended. Called once, after Apply, in the order of the log, by one of the engine's threads at
    /// a time; must not block or throw.
    /// </summary>
    public abstract void Complete(ProposalOutcome outcome);
}

/// <summary>The log is damaged where a torn last write cannot explain it; starting could lose acknowledged entries.</summary>
public sealed class LogCorruptException(string message) : IOException(message);
