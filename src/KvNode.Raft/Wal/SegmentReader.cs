using System.Runtime.InteropServices;

namespace KvNode.Raft.Wal;

/// <summary>What stands where the next frame should be.</summary>
internal enum FrameStatus
{
    /// <summary>A sound frame that continues the log.</summary>
    Sound,

    /// <summary>
    /// Not all of it is in memory: give up the payloads seen so far, then <see cref="SegmentReader.Refill"/>.
    /// </summary>
    NeedsRefill,

    /// <summary>Nothing: a zero sector, or the end of the file.</summary>
    End,

    /// <summary>A frame of which some sectors were never written.</summary>
    Torn,

    /// <summary>Bytes that no interrupted write explains.</summary>
    Rotten,
}

/// <summary>
/// Reads one segment's frames in order and judges them. Changes nothing. One thread at a time.
/// </summary>
/// <remarks>
/// A file that is shorter than it was counts as zero from there on, a broken sector at its end included.
/// </remarks>
internal sealed class SegmentReader
{
    private readonly IDiskFile _file;
    private readonly long _length;
    private readonly ulong _logId;
    private readonly ulong _segmentId;
    private byte[] _window;
    private bool _anyNext;
    private long _windowStart;
    private int _windowBytes;

    /// <param name="window">Memory to read into. Payloads point into it; larger frames get their own.</param>
    public SegmentReader(IDiskFile file, in SegmentHeader header, byte[] window)
    {
        _file = file;
        _length = file.Length & ~(long)(WalFormat.SectorBytes - 1);
        _logId = header.LogId;
        _segmentId = header.SegmentId;
        _window = window;
        _windowStart = SegmentHeader.Bytes;
        Offset = SegmentHeader.Bytes;
        NextSequence = header.FirstSequence;
        Chain = header.Chain;
    }

    /// <summary>Begins at a frame in the middle, whose sequence number and chain are then taken as they are.</summary>
    public SegmentReader(IDiskFile file, ulong logId, ulong segmentId, long offset, byte[] window)
        : this(file, new SegmentHeader(logId, segmentId, 0, default, 0), window)
    {
        _windowStart = Offset = offset;
        _anyNext = true;
    }

    /// <summary>Where the next frame is.</summary>
    public long Offset { get; private set; }

    /// <summary>The sequence number the next frame must have.</summary>
    public ulong NextSequence { get; private set; }

    /// <summary>What the next frame must have as its chain.</summary>
    public uint Chain { get; private set; }

    /// <summary>The frame read last.</summary>
    public FrameHeader Header { get; private set; }

    /// <summary>Its records, without the end mark. Valid until <see cref="Refill"/>.</summary>
    public ReadOnlyMemory<byte> Payload { get; private set; }

    /// <summary>Why the last frame was not sound, for people.</summary>
    public string Reason { get; private set; } = "";

    /// <summary>Reads the frame at <see cref="Offset"/> and, when it is sound, moves on behind it.</summary>
    public FrameStatus ReadFrame()
    {
        if (Offset + WalFormat.SectorBytes > _length)
        {
            return FrameStatus.End;
        }

        var available = WindowFrom(Offset);
        if (available.Length < WalFormat.SectorBytes)
        {
            return FrameStatus.NeedsRefill;
        }

        var first = available.Span[..WalFormat.SectorBytes];
        if (WalFormat.IsZero(first))
        {
            return FrameStatus.End;
        }

        if (!FrameHeader.TryDecode(first, out var header, out var crc))
        {
            return Bad(FrameStatus.Rotten, "a frame header's checksum does not match");
        }

        if (!Belongs(header))
        {
            return FrameStatus.Rotten;
        }

        var layout = FrameLayout.For(header.PayloadBytes);
        if (Offset + layout.Bytes > _length)
        {
            // Its last sector, never zero, is not there.
            return Bad(FrameStatus.Torn, "the file ends inside a frame");
        }

        if (available.Length < layout.Bytes)
        {
            return FrameStatus.NeedsRefill;
        }

        return Accept(header, layout, available[..layout.Bytes], crc);
    }

    /// <summary>Brings the next frame (whole) into memory. Payloads handed out before are overwritten.</summary>
    public void Refill()
    {
        Payload = default;
        var needed = WalFormat.SectorBytes;
        var available = WindowFrom(Offset);
        if (available.Length >= WalFormat.SectorBytes
            && FrameHeader.TryDecode(available.Span, out var header, out _))
        {
            needed = FrameLayout.For(header.PayloadBytes).Bytes;
        }

        if (needed > _window.Length)
        {
            _window = GC.AllocateUninitializedArray<byte>(needed);
        }

        _windowStart = Offset;
        _windowBytes = (int)Math.Min(_window.Length, _length - Offset);
        var count = _file.Read(Offset, _window.AsSpan(0, _windowBytes));
        _window.AsSpan(count, _windowBytes - count).Clear();
    }

    private Memory<byte> WindowFrom(long offset)
    {
        var start = (int)(offset - _windowStart);
        return start >= _windowBytes ? default : _window.AsMemory(start, _windowBytes - start);
    }

    private bool Belongs(in FrameHeader header)
    {
        if (header.LogId != _logId || header.SegmentId != _segmentId
            || header.Place != Offset / WalFormat.SectorBytes)
        {
            _ = Bad(FrameStatus.Rotten, "a frame of another log or place stands here");
            return false;
        }

        if (!_anyNext && (header.Sequence != NextSequence || header.Chain != Chain))
        {
            _ = Bad(FrameStatus.Rotten, "a frame does not continue the one before it");
            return false;
        }

        return true;
    }

    private FrameStatus Accept(in FrameHeader header, in FrameLayout layout, Memory<byte> frame, uint crc)
    {
        var status = Judge(header, layout, frame.Span);
        if (status != FrameStatus.Sound)
        {
            return status;
        }

        var payload = frame.Slice(layout.PayloadOffset, header.PayloadBytes);
        FrameEncoder.ApplyMask(payload.Span, header.Mask);
        Invariant.Check(MemoryMarshal.Read<uint>(payload.Span[^WalFormat.EndMarkBytes..]) == WalFormat.EndMark);
        Header = header;
        Payload = payload[..^WalFormat.EndMarkBytes];
        Offset += layout.Bytes;
        NextSequence = header.Sequence + 1;
        _anyNext = false;
        Chain = crc;
        return FrameStatus.Sound;
    }

    private FrameStatus Judge(in FrameHeader header, in FrameLayout layout, ReadOnlySpan<byte> frame)
    {
        if (Crc32C.Compute(frame[FrameHeader.Bytes..layout.HeadBytes]) != header.HeadCrc)
        {
            for (var i = 1; i < layout.HeadSectors; i++)
            {
                if (WalFormat.IsZero(frame.Slice(i * WalFormat.SectorBytes, WalFormat.SectorBytes)))
                {
                    return Bad(FrameStatus.Torn, "part of a frame's head was never written");
                }
            }

            return Bad(FrameStatus.Rotten, "a frame head's checksum does not match");
        }

        var table = MemoryMarshal.Cast<byte, uint>(frame[FrameHeader.Bytes..layout.PayloadOffset]);
        var torn = false;
        Span<uint> crcs = stackalloc uint[64];
        for (var i = 0; i < layout.BodySectors; i += crcs.Length)
        {
            var count = Math.Min(crcs.Length, layout.BodySectors - i);
            var sectors = frame.Slice(layout.HeadBytes + (i * WalFormat.SectorBytes), count * WalFormat.SectorBytes);
            Crc32C.ComputeSectors(sectors, crcs[..count]);
            for (var j = 0; j < count; j++)
            {
                if (crcs[j] == table[i + j])
                {
                    continue;
                }

                if (!WalFormat.IsZero(sectors.Slice(j * WalFormat.SectorBytes, WalFormat.SectorBytes)))
                {
                    return Bad(FrameStatus.Rotten, "a sector's checksum does not match");
                }

                torn = true;
            }
        }

        return torn ? Bad(FrameStatus.Torn, "part of a frame was never written") : FrameStatus.Sound;
    }

    private FrameStatus Bad(FrameStatus status, string reason)
    {
        Reason = reason;
        return status;
    }
}
