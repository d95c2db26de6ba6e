namespace KvNode.Raft.Engine;

/// <summary>
/// The bytes of the log's newest entries: large pieces, filled front to back and used again when the log has let go of every
/// entry in them. No allocation once it has grown. Raft thread only.
/// </summary>
internal sealed class EntryArena
{
    private const int PieceBytes = 1 << 20;
    private const int KeptMax = 16;

    private readonly Queue<Piece> _used = new();
    private readonly Stack<byte[]> _free = new();
    private byte[] _open = [];
    private int _offset;
    private ulong _openLast;

    private readonly record struct Piece(byte[] Bytes, ulong LastIndex);

    /// <summary>Room for the payload of the entry with this index, or of those up to it.</summary>
    public Memory<byte> Rent(int bytes, ulong index)
    {
        if (bytes > PieceBytes / 4)
        {
            // Large ones stand alone: the collector takes them when the log has let go.
            return GC.AllocateUninitializedArray<byte>(bytes);
        }

        if (_open.Length - _offset < bytes)
        {
            if (_open.Length > 0)
            {
                _used.Enqueue(new Piece(_open, _openLast));
            }

            _open = _free.Count > 0 ? _free.Pop() : GC.AllocateUninitializedArray<byte>(PieceBytes, pinned: true);
            _offset = 0;
            _openLast = 0;
        }

        var room = _open.AsMemory(_offset, bytes);
        _offset += bytes;
        _openLast = Math.Max(_openLast, index);
        return room;
    }

    /// <summary>No entry before this index is in memory any more, nor on its way to the disk or the state machine.</summary>
    public void Release(ulong firstInMemory)
    {
        while (_used.TryPeek(out var piece) && piece.LastIndex < firstInMemory)
        {
            _ = _used.Dequeue();
            if (_free.Count < KeptMax)
            {
                _free.Push(piece.Bytes);
            }
        }
    }
}
