using KvNode.Raft;
using KvNode.Storage;
using KvNode.Storage.Snapshots;

namespace KvNode.Server.Replication;

/// <summary>A view of the store as the bytes of a <c>state.bin</c>: what joins the engine's snapshots to the storage's
/// format. Owns the view.</summary>
internal sealed class StoreSnapshot : ISnapshotReader
{
    private readonly SnapshotStream _stream;

    public StoreSnapshot(StoreReadView view, IReadOnlyList<string> members, ReadOnlyMemory<byte> engineState)
    {
        Meta = new SnapshotMeta(new EntryId(view.Term, view.Index), view.Count, members, engineState);
        _stream = new SnapshotStream(
            new SnapshotHeader(view.Index, view.Term, view.ClockMs, view.Count, members) { EngineState = engineState },
            new KeyspaceRecordSource(view));
    }

    public SnapshotMeta Meta { get; }

    public int Read(Span<byte> buffer) => _stream.Read(buffer);

    public void Dispose() => _stream.Dispose();
}

/// <summary>The store's install as the engine's writer. Owns the install.</summary>
internal sealed class StoreRestore(StoreInstall install) : ISnapshotWriter
{
    public void Write(ReadOnlySpan<byte> chunk) => install.Write(chunk);

    public void Complete() => install.Complete();

    public void Commit() => install.Commit();

    public void Dispose() => install.Dispose();
}
