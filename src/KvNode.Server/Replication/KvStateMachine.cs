using KvNode.Raft;
using KvNode.Server.Resp;
using KvNode.Storage;
using KvNode.Storage.Snapshots;

namespace KvNode.Server.Replication;

/// <summary>The state the log builds: the only place where writes happen.</summary>
internal sealed class KvStateMachine(Store store, Executor executor, IReadOnlyList<string> members) : IReplicatedStateMachine, IDisposable
{
    // Replies of entries that nobody on this node waits for.
    private readonly RespWriter _discard = new();

    /// <summary>Addresses of the cluster's members, for people who look into a snapshot. May be set by any thread.</summary>
    public IReadOnlyList<string> Members { get; set; } = members;

    public EntryId Durable
    {
        get
        {
            var durable = store.DurablePosition;
            return new EntryId(durable.Term, durable.Index);
        }
    }

    public ReadOnlyMemory<byte> EngineState => store.DurablePosition.EngineState;

    public EntryId InstalledAt
    {
        get
        {
            var durable = store.DurablePosition;
            return new EntryId(durable.InstalledTerm, durable.InstalledIndex);
        }
    }

    public string? WriteRefusal => store.WriteRefusal;

    public bool IsLong(ReadOnlySpan<byte> payload) => !payload.IsEmpty && EntryHeader.Read(payload).IsLong;

    public string? Check(ReadOnlySpan<byte> payload) => executor.Check(payload);

    public bool ApplyMayWait => store.BatchMayWait;

    public void Apply(ReadOnlySpan<CommittedEntry> entries, ReadOnlySpan<byte> engineState)
    {
        var view = store.BeginBatch();
        var clockMs = store.ClockMs;
        foreach (ref readonly var entry in entries)
        {
            if (entry.Kind == EntryKind.Normal)
            {
                var payload = entry.Payload.Span;
                var batch = entry.Batch as CommandBatch;
                if (!payload.IsEmpty)
                {
                    clockMs = executor.Apply(payload, batch, view, _discard, clockMs);
                }
                else if (batch is not null)
                {
                    executor.Read(batch, view);
                }
            }
        }

        var last = entries[^1].Id;
        store.Publish(last.Index, last.Term, clockMs, engineState);
    }

    public void Read(ReadOnlySpan<ProposalBatch> batches)
    {
        using var view = store.OpenView();
        foreach (var proposal in batches)
        {
            if (proposal is CommandBatch batch)
            {
                executor.Read(batch, view);
            }
        }
    }

    public void Dispose() => _discard.Dispose();

    public long StateBytes => store.Status.FileBytes;

    public void Checkpoint() => store.Checkpoint();

    public ISnapshotReader OpenSnapshot()
    {
        var view = store.OpenView(out var engineState);
        return new StoreSnapshot(view, Members, engineState);
    }

    public ISnapshotWriter CreateRestore(SnapshotMeta meta) => new StoreRestore(StoreInstall.Begin(store, new InstallManifest
    {
        Index = meta.Position.Index,
        Term = meta.Position.Term,
        Count = meta.Count,
        EngineState = meta.EngineState,
    }));
}
