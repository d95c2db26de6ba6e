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
    /// Applies entries, in order, atomically as seen by readers. Results for local proposals go into
    /// <see cref="CommittedEntry.Batch"/>. May not fail for one node only: an implementation that cannot go on throws,
    /// and the engine stops the process.
    /// </summary>
    void Apply(ReadOnlySpan<CommittedEntry> entries);

    /// <summary>A consistent cut of the applied state, readable on another thread while Apply goes on.</summary>
    ISnapshotReader OpenSnapshot();

    /// <summary>Starts to replace the whole state by a snapshot. Not available on a single voter.</summary>
    ISnapshotWriter CreateRestore(SnapshotMeta meta, long resumeAt);

    /// <summary>Makes the applied state durable now; blocks until it is. <see cref="Durable"/> moves.</summary>
    void Checkpoint();

    /// <summary>
    /// Asked before a batch is sealed: why new writes must be refused now (for example the store's disk is full), or
    /// null. Cheap; called by the engine's thread.
    /// </summary>
    string? WriteRefusal { get; }
}

/// <param name="Position">The state is exactly what the log gives up to here.</param>
/// <param name="Count">Keys in it.</param>
/// <param name="Members">Addresses of the cluster's members.</param>
public sealed record SnapshotMeta(EntryId Position, long Count, IReadOnlyList<string> Members);

/// <summary>The bytes of a snapshot's <c>state.bin</c>, front to back. One thread at a time.</summary>
public interface ISnapshotReader : IDisposable
{
    SnapshotMeta Meta { get; }

    /// <summary>Fills the start of the buffer; 0 only at the end.</summary>
    int Read(Span<byte> buffer);
}

/// <summary>Receives a <c>state.bin</c>; nothing is visible before <see cref="Commit"/>.</summary>
public interface ISnapshotWriter : IDisposable
{
    void Write(ReadOnlySpan<byte> chunk);

    /// <summary>Checks the whole, then swaps the state atomically.</summary>
    void Commit();
}
