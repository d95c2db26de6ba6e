using KvNode.Raft.Wal;

namespace KvNode.Raft.Transport;

/// <summary>
/// Bytes of one connection to frames: receive into <see cref="Room"/>, say how much with <see cref="Received"/>, then take
/// frames until there is none. One thread at a time.
/// </summary>
/// <remarks>A large payload is received straight into the memory that the sink will own; smaller ones are copied there once
/// from a buffer that many frames share, so that a burst of small frames costs one receive. Nothing is allocated per frame.</remarks>
internal sealed class FrameReader(IFrameMemory memory, int payloadBytesMax) : IDisposable
{
    /// <summary>One receive of small frames; also how much of a payload may be missing for it to go through the buffer.</summary>
    private const int BufferBytes = 64 * 1024;

    private readonly byte[] _buffer = new byte[BufferBytes];
    private int _start;
    private int _end;
    private PeerFrameHeader _header;
    private FrameBuffer? _payload;
    private int _filled;
    private bool _direct;

    /// <summary>True when the bytes received so far end within a frame.</summary>
    public bool IsMidFrame => _payload is not null || _end > _start;

    /// <summary>Where to receive next; never empty, valid until the next call of any member.</summary>
    public Memory<byte> Room
    {
        get
        {
            _direct = _payload is not null && _header.PayloadBytes - _filled >= BufferBytes / 2;
            if (_direct)
            {
                return _payload!.Memory[_filled..];
            }

            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
            return _buffer.AsMemory(_end);
        }
    }

    public void Received(int bytes)
    {
        if (_direct)
        {
            _filled += bytes;
        }
        else
        {
            _end += bytes;
        }
    }

    /// <param name="payload">The caller's to release; null when the frame has none.</param>
    /// <returns>False when no whole frame is here: receive more.</returns>
    /// <exception cref="PeerProtocolException">Not a frame, or one that arrived damaged.</exception>
    public bool TryTake(out PeerFrameHeader header, out FrameBuffer? payload)
    {
        header = default;
        payload = null;
        if (_payload is null)
        {
            if (_end - _start < PeerFrameHeader.Bytes)
            {
                return false;
            }

            _header = PeerFrameHeader.Decode(_buffer.AsSpan(_start), payloadBytesMax);
            _start += PeerFrameHeader.Bytes;
            if (_header.PayloadBytes == 0)
            {
                header = _header;
                return true;
            }

            _payload = memory.Rent(_header.PayloadBytes);
            _filled = 0;
        }

        var bytes = Math.Min(_end - _start, _header.PayloadBytes - _filled);
        _buffer.AsSpan(_start, bytes).CopyTo(_payload.Memory.Span[_filled..]);
        _start += bytes;
        _filled += bytes;
        if (_filled < _header.PayloadBytes)
        {
            return false;
        }

        if (Crc32C.Compute(_payload.Memory.Span) != _header.PayloadCrc)
        {
            throw new PeerProtocolException("a payload with a wrong checksum");
        }

        header = _header;
        payload = _payload;
        _payload = null;
        return true;
    }

    /// <summary>Gives back a payload that has not arrived whole.</summary>
    public void Dispose()
    {
        _payload?.Release();
        _payload = null;
    }
}
