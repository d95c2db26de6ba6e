using System.Buffers.Binary;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// Takes a <see cref="SnapshotInput"/> apart: small reads out of one buffer, a position for messages, and the CRC-32C
/// of everything taken so far. One thread at a time; owns the input.
/// </summary>
internal sealed class BufferedInput(SnapshotInput input) : IDisposable
{
    public const int BufferBytes = 256 * 1024;

    private readonly byte[] _buffer = new byte[BufferBytes];
    private int _offset;
    private int _length;
    private long _bufferPosition;

    // Invariant: _crc covers all bytes before _buffer[_crcOffset]; those up to _offset are added when needed.
    private int _crcOffset;
    private uint _crc = Crc32C.Start;

    /// <summary>Uncompressed bytes taken so far.</summary>
    public long Position => _bufferPosition + _offset;

    /// <summary>CRC-32C of all bytes taken so far.</summary>
    public uint Checksum
    {
        get
        {
            _crc = Crc32C.Append(_crc, _buffer.AsSpan(_crcOffset, _offset - _crcOffset));
            _crcOffset = _offset;
            return Crc32C.Finish(_crc);
        }
    }

    /// <summary>True when nothing is left; the input has then verified itself.</summary>
    public bool AtEnd => _offset == _length && !Refill();

    /// <summary>Takes some bytes, at least one unless at the end or the target is empty.</summary>
    public int Read(Span<byte> target)
    {
        if (target.IsEmpty || AtEnd)
        {
            return 0;
        }

        var count = Math.Min(target.Length, _length - _offset);
        _buffer.AsSpan(_offset, count).CopyTo(target);
        _offset += count;
        return count;
    }

    /// <summary>Takes exactly the target's length.</summary>
    /// <param name="what">What is being read, for the message.</param>
    public void ReadExactly(Span<byte> target, string what)
    {
        while (!target.IsEmpty)
        {
            var count = Read(target);
            if (count == 0)
            {
                throw new SnapshotFormatException($"truncated: ends inside {what} at byte {Position} of the content");
            }

            target = target[count..];
        }
    }

    public uint ReadUInt32(string what)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        ReadExactly(bytes, what);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes);
    }

    public ulong ReadUInt64(string what)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        ReadExactly(bytes, what);
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }

    /// <summary>Takes and forgets; the bytes still count for the checksum.</summary>
    public void Skip(long count, string what)
    {
        while (count > 0)
        {
            if (AtEnd)
            {
                throw new SnapshotFormatException($"truncated: ends inside {what} at byte {Position} of the content");
            }

            var step = (int)Math.Min(count, _length - _offset);
            _offset += step;
            count -= step;
        }
    }

    public void Dispose() => input.Dispose();

    private bool Refill()
    {
        _ = Checksum;
        _bufferPosition += _offset;
        _offset = 0;
        _crcOffset = 0;
        _length = input.Read(_buffer);
        return _length > 0;
    }
}
