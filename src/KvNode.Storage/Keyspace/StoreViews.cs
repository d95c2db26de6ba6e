namespace KvNode.Storage;

/// <summary>A published state, pinned. One thread at a time; need not be the thread that opened it.</summary>
public sealed class StoreReadView : KeyspaceView
{
    private readonly Store _store;
    private readonly LayerStack _layers = new();
    private long _count;
    private bool _open;

    internal StoreReadView(Store store) => _store = store;

    /// <summary>The log position this view shows.</summary>
    public ulong Index { get; private set; }

    public ulong Term { get; private set; }

    /// <summary>The state's own clock at that position.</summary>
    public long ClockMs { get; private set; }

    public override long Count => _count;

    public override bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value, out ValueTag tag) =>
        StoredValue.Split(_layers.TryGet(key, out var stored), stored, out value, out tag);

    public override KeyCursor Scan(KeyRange range) => _layers.Scan(range);

    internal bool BelongsTo(Store store) => ReferenceEquals(_store, store);

    internal void Open(Layers layers, DiskReader reader, in PublishedState state)
    {
        _layers.Open(layers, reader, state.Sequence);
        _count = state.Count;
        _open = true;
        Index = state.Index;
        Term = state.Term;
        ClockMs = state.ClockMs;
    }

    protected override void Dispose(bool disposing)
    {
        if (_open)
        {
            _open = false;
            _layers.Close();
            _store.ReturnView(this);
        }
    }
}

/// <summary>The applying thread's view: what was published plus the writes of the batch in progress.</summary>
internal sealed class StoreWriteView(Store store) : WriteView
{
    private static ReadOnlySpan<byte> StringTag => [(byte)ValueTag.String];

    private readonly LayerStack _layers = new();
    private long _count;

    public override long Count => _count;

    /// <summary>The last sequence number given to a write.</summary>
    public ulong Sequence => _layers.Sequence;

    /// <summary>Where writes go: the active buffer, or after a clear a fresh one.</summary>
    public WriteBuffer Target => _layers.Top;

    public void Begin(Layers layers, DiskReader reader, in PublishedState state)
    {
        _layers.Open(layers, reader, state.Sequence);
        _count = state.Count;
    }

    public void End() => _layers.Close();

    public override bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value, out ValueTag tag) =>
        StoredValue.Split(_layers.TryGet(key, out var stored), stored, out value, out tag);

    public override KeyCursor Scan(KeyRange range) => _layers.Scan(range);

    public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        var hash = WriteBuffer.Hash(key);
        var before = _layers.Top.Put(++_layers.Sequence, key, hash, StringTag, value);
        if (before == BufferLookup.Missing)
        {
            before = _layers.BelowTop(key, hash, out _);
        }

        if (before != BufferLookup.Value)
        {
            _count++;
        }
    }

    public override bool Delete(ReadOnlySpan<byte> key)
    {
        if (!_layers.TryGet(key, out _))
        {
            return false;
        }

        _layers.Top.Delete(++_layers.Sequence, key, WriteBuffer.Hash(key));
        _count--;
        return true;
    }

    public override void Clear()
    {
        // A second clear in one batch leaves the first one's fresh buffer to nobody else: drop it.
        if (!ReferenceEquals(_layers.Top, store.ActiveBuffer))
        {
            _layers.Top.Release();
        }

        _layers.Top = new WriteBuffer(clearsBelow: true);
        _count = 0;
    }

    protected override void Dispose(bool disposing)
    {
        // Lives as long as the store; End closes it after each batch.
    }
}

/// <summary>A value as stored: its tag byte, then what the tag says.</summary>
internal static class StoredValue
{
    public static bool Split(
        bool found, ReadOnlySpan<byte> stored, out ReadOnlySpan<byte> value, out ValueTag tag)
    {
        if (!found)
        {
            value = default;
            tag = default;
            return false;
        }

        tag = (ValueTag)stored[0];
        value = stored[1..];
        return true;
    }
}
