using System.Buffers.Binary;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// The content of a stream that must be exactly one LZ4 frame. Constant memory whatever the frame claims.
/// </summary>
/// <remarks>
/// The library verifies the header's checksum and those of blocks and content where the frame carries them. Added here:
/// a frame that stops early and bytes after its end are errors. One thread at a time. The stream stays the caller's.
/// </remarks>
internal sealed unsafe class Lz4FrameReader : SnapshotInput
{
    private const int InputBytes = 64 * 1024;

    private readonly Stream _source;
    private readonly byte[] _input = new byte[InputBytes];
    private readonly Lz4Native.DecompressionContext _context = Lz4Native.CreateDecompressionContext();
    private int _inputOffset;
    private int _inputLength;
    private long _consumed;
    private bool _ended;

    /// <exception cref="SnapshotFormatException">The stream does not begin with an LZ4 frame.</exception>
    public Lz4FrameReader(Stream source)
    {
        _source = source;
        while (_inputLength < sizeof(uint))
        {
            var read = source.Read(_input, _inputLength, _input.Length - _inputLength);
            if (read == 0)
            {
                throw new SnapshotFormatException("not an LZ4 frame: shorter than four bytes");
            }

            _inputLength += read;
        }

        // Without this a skippable frame would pass as an empty one.
        if (BinaryPrimitives.ReadUInt32LittleEndian(_input) != Lz4Native.FrameMagic)
        {
            throw new SnapshotFormatException("not an LZ4 frame: wrong first bytes");
        }
    }

    /// <inheritdoc/>
    public override int Read(Span<byte> target)
    {
        while (!_ended && !target.IsEmpty)
        {
            if (_inputOffset == _inputLength && !Refill())
            {
                throw new SnapshotFormatException($"truncated: the LZ4 frame stops after {_consumed} bytes");
            }

            var produced = Decompress(target);
            if (_ended)
            {
                RefuseTrailingBytes();
            }

            if (produced > 0)
            {
                return produced;
            }
        }

        return 0;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _context.Dispose();
        }
    }

    private int Decompress(Span<byte> target)
    {
        var targetBytes = (nuint)target.Length;
        var sourceBytes = (nuint)(_inputLength - _inputOffset);
        nuint result;
        fixed (byte* t = target)
        fixed (byte* s = _input)
        {
            result = Lz4Native.Decompress(_context, t, &targetBytes, s + _inputOffset, &sourceBytes, null);
        }

        if (Lz4Native.IsError(result))
        {
            throw new SnapshotFormatException(
                $"corrupt LZ4 frame near byte {_consumed}: {Lz4Native.ErrorName(result)}");
        }

        _inputOffset += (int)sourceBytes;
        _consumed += (int)sourceBytes;
        _ended = result == 0;
        return (int)targetBytes;
    }

    private bool Refill()
    {
        _inputOffset = 0;
        _inputLength = _source.Read(_input, 0, _input.Length);
        return _inputLength > 0;
    }

    private void RefuseTrailingBytes()
    {
        if (_inputOffset < _inputLength || Refill())
        {
            throw new SnapshotFormatException($"bytes after the end of the LZ4 frame, which is at byte {_consumed}");
        }
    }
}
