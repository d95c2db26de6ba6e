namespace KvNode.Storage;

/// <summary>
/// The layers of one moment, pinned, and how to look through them: newest first, the first one that knows a key
/// decides, and nothing below a buffer that begins with a clear counts.
/// </summary>
/// <remarks>One thread at a time.</remarks>
internal sealed class LayerStack
{
    private Layers _layers = null!;
    private DiskReader _reader = null!;

    /// <summary>The topmost buffer. The writer exchanges it when it clears everything.</summary>
    public WriteBuffer Top { get; set; } = null!;

    /// <summary>What is visible: writes up to this sequence number.</summary>
    public ulong Sequence { get; set; }

    /// <summary>Takes over pinned layers and a rented reader.</summary>
    public void Open(Layers layers, DiskReader reader, ulong sequence)
    {
        _layers = layers;
        _reader = reader;
        Top = layers.Active;
        Sequence = sequence;
    }

    public void Close()
    {
        _layers.Disk.ReturnReader(_reader);
        _layers.Unpin();
        _reader = null!;
        _layers = null!;
        Top = null!;
    }

    /// <summary>The value as stored, tag byte first. The span lives until the stack is closed or the key is written.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> stored)
    {
        if (Top.Keys == 0 && _layers.Sealed is null)
        {
            // The common case of a store that is only read: no hash needed.
            stored = default;
            return !Top.ClearsBelow && _reader.TryGet(key, out stored);
        }

        var hash = WriteBuffer.Hash(key);
        var found = Top.TryGet(Sequence, key, hash, out stored);
        if (found == BufferLookup.Missing)
        {
            found = BelowTop(key, hash, out stored);
        }

        return found == BufferLookup.Value;
    }

    /// <summary>What the layers under the top one say of a key.</summary>
    public BufferLookup BelowTop(ReadOnlySpan<byte> key, ulong hash, out ReadOnlySpan<byte> stored)
    {
        stored = default;
        if (Top.ClearsBelow)
        {
            return BufferLookup.Missing;
        }

        if (_layers.Sealed is { } flushing)
        {
            var found = flushing.TryGet(Sequence, key, hash, out stored);
            if (found != BufferLookup.Missing || flushing.ClearsBelow)
            {
                return found;
            }
        }

        return _reader.TryGet(key, out stored) ? BufferLookup.Value : BufferLookup.Missing;
    }

    public MergedCursor Scan(in KeyRange range)
    {
        var flushing = Top.ClearsBelow ? null : _layers.Sealed;
        var hidden = Top.ClearsBelow || flushing is { ClearsBelow: true };
        return new MergedCursor(Top, flushing, hidden ? null : _reader, Sequence, range);
    }
}
