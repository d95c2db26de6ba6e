namespace KvNode.Raft.Wal;

internal enum PieceStatus
{
    /// <summary>The next entry.</summary>
    Entry,

    /// <summary>More must be read: give up the payloads seen so far, then <see cref="PieceReader.Refill"/>.</summary>
    NeedsRefill,

    /// <summary>There are no more.</summary>
    Done,

    /// <summary>The segment does not have what the map says.</summary>
    Broken,
}

/// <summary>Reads the entries of one <see cref="LogPiece"/> in order. One thread.</summary>
/// <param name="window">Memory to read into; payloads point into it. Larger frames get their own.</param>
internal sealed class PieceReader(IDiskFile file, ulong logId, LogPiece piece, byte[] window)
{
    private readonly SegmentReader _reader = new(file, logId, piece.Start.Segment, piece.Start.Offset, window);
    private ReadOnlyMemory<byte> _rest;
    private int _skip = piece.Start.Record;
    private ulong _next = piece.Start.Index;

    /// <summary>Where the reader is, for messages.</summary>
    public long Offset => _reader.Offset;

    /// <param name="record">Valid until <see cref="Refill"/>.</param>
    public PieceStatus Next(out WalRecord record)
    {
        record = default;
        while (_next <= piece.Last)
        {
            while (!_rest.IsEmpty)
            {
                if (!WalRecord.TryDecode(ref _rest, out record))
                {
                    return PieceStatus.Broken;
                }

                if (_skip > 0)
                {
                    _skip--;
                    continue;
                }

                if (record.Kind == RecordKind.Entry)
                {
                    // Voided entries come only after those of the piece.
                    return record.Id.Index == _next++ ? PieceStatus.Entry : PieceStatus.Broken;
                }
            }

            switch (_reader.ReadFrame())
            {
                case FrameStatus.Sound:
                    _rest = _reader.Payload;
                    break;
                case FrameStatus.NeedsRefill:
                    return PieceStatus.NeedsRefill;
                default:
                    return PieceStatus.Broken;
            }
        }

        return PieceStatus.Done;
    }

    public void Refill() => _reader.Refill();
}
