namespace KvNode.Raft;

/// <summary>
/// What the engine replicates. Apply is called in order and never concurrently with itself, though not always by the same
/// thread; the snapshot and checkpoint members may be called from another thread while Apply runs.
/// </summary>
public interface IReplicatedStateMachine
{
    /// <summary>The last entry in the durable state, read at start: replay begins after it.</summary>
    EntryId Durable { get; }

    /// <summary>
    /// The engine's own bytes as of <see cref="Durable"/>: what was given with that entry to <see cref="Apply"/>, or with
    /// the snapshot that was installed there. Empty for a new machine. The bytes do not change under the reader.
    /// </summary>
    ReadOnlyMemory<byte> EngineState { get; }

    /// <summary>
    /// The position of the last snapshot that was installed here, noted durably together with its state; default when
    /// there was none. When it equals <see cref="Durable"/> a log that does not reach that position may be begun anew
    /// there: the crash came after the install and before the log was told.
    /// </summary>
    EntryId InstalledAt { get; }

    /// <summary>
    /// Applies entries, in order, atomically as seen by readers. Results for local proposals go into
    /// <see cref="CommittedEntry.Batch"/>. May not fail for one node only: an implementation that cannot go on throws,
    /// and the engine stops the process.
    /// </summary>
    /// <param name="entries">
    /// At least one. An item without payload is a batch of reads, to be run at its place. An entry of several sub-batches comes as several items with the same Id, in their order and all in
    /// one call; an entry that has nothing to execute comes as one item of another kind than Normal.
    /// </param>
    /// <param name="engineState">
    /// The engine's own bytes as of the last of these entries, at most <see cref="EngineStateBytesMax"/>; copied. They
    /// become durable together with the effect of that entry, never before or after it.
    /// </param>
    void Apply(ReadOnlySpan<CommittedEntry> entries, ReadOnlySpan<byte> engineState);

    /// <summary>Runs batches that hold only reads against what is applied, writing the results into them. Never at the same
    /// time as <see cref="Apply"/>.</summary>
    void Read(ReadOnlySpan<ProposalBatch> batches);

    /// <summary>A consistent cut of the applied state, readable on another thread while Apply goes on.</summary>
    ISnapshotReader OpenSnapshot();

    /// <summary>
    /// Starts to receive a snapshot that will replace the whole state, beside the present one, which stays as it is and
    /// goes on being applied to until <see cref="ISnapshotWriter.Commit"/>. One at a time.
    /// </summary>
    ISnapshotWriter CreateRestore(SnapshotMeta meta);

    /// <summary>Makes the applied state durable now; blocks until it is. <see cref="Durable"/> moves.</summary>
    void Checkpoint();

    /// <summary>
    /// Asked before a batch is sealed: why new writes must be refused now (for example the store's disk is full), or
    /// null. Cheap; called by the engine's thread.
    /// </summary>
    string? WriteRefusal { get; }

    /// <summary>
    /// Whether applying this payload may take so long that no other work of the engine's should wait for it: its work is out
    /// of proportion to its bytes. Cheap; any thread.
    /// </summary>
    /// <param name="payload">What a <see cref="ProposalBatch.Seal"/> gave, of this node or of another.</param>
    bool IsLong(ReadOnlySpan<byte> payload);

    /// <summary>
    /// Whether a payload that another node gave is whole, and known to this program: null, or what is wrong with it. Asked by
    /// a leader before it becomes an entry, for an entry that cannot be applied ends every node. The engine's thread.
    /// </summary>
    string? Check(ReadOnlySpan<byte> payload);

    /// <summary>Whether an Apply now might wait for a disk, for it has fallen behind. Cheap; any thread.</summary>
    bool ApplyMayWait { get; }

    /// <summary>About how much disk the state takes, in bytes. Any thread; not for every entry.</summary>
    long StateBytes { get; }

    /// <summary>Most bytes of engine state, so that a snapshot's header stays small.</summary>
    const int EngineStateBytesMax = 48 * 1024;
}

/// <param name="Position">The state is exactly what the log gives up to here.</param>
/// <param name="Count">Keys in it.</param>
/// <param name="Members">Addresses of the cluster's members, for people.</param>
/// <param name="EngineState">The engine's own bytes as of <paramref name="Position"/>.</param>
public sealed record SnapshotMeta(
    EntryId Position, long Count, IReadOnlyList<string> Members, ReadOnlyMemory<byte> EngineState);

/// <summary>The bytes of a snapshot's <c>state.bin</c>, front to back. One thread at a time.</summary>
public interface ISnapshotReader : IDisposable
{
    SnapshotMeta Meta { get; }

    /// <summary>Fills the start of the buffer; 0 only at the end.</summary>
    int Read(Span<byte> buffer);
}

/// <summary>
/// Receives a <c>state.bin</c>, front to back; nothing is visible before <see cref="Commit"/>. One thread at a time, any
/// thread; Apply may run meanwhile, except during Commit.
/// </summary>
/// <remarks>
/// An <see cref="IOException"/> from <see cref="Write"/> or <see cref="Complete"/> (damaged, not what the meta says, disk
/// full) ends this restore and leaves the state untouched; a later one may succeed. A failed sync, and any failure of
/// Commit once it has begun to swap, is fatal: the process must end, and the next start finds the old state or the new.
/// Disposing without a commit throws away what was received.
/// </remarks>
public interface ISnapshotWriter : IDisposable
{
    /// <summary>Takes the next bytes; may block while those before are being worked in.</summary>
    void Write(ReadOnlySpan<byte> chunk);

    /// <summary>No more bytes come: checks the whole and makes it durable beside the present state. May take long.</summary>
    void Complete();

    /// <summary>
    /// Swaps the state, atomically for readers and on disk, and durably: afterwards <see
    /// cref="IReplicatedStateMachine.Durable"/> and <see cref="IReplicatedStateMachine.InstalledAt"/> are the meta's
    /// position. Completes first if need be. Short otherwise, but it waits for a flush that is under way, which may call
    /// <see cref="IConsensusEngine.EnsureLogDurable"/>: not under a lock that it needs.
    /// </summary>
    void Commit();
}
