using System.Buffers.Binary;
using System.IO.Compression;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// The content of a stream that must be exactly one gzip member (RFC 1952), as Go's writer makes it.
/// </summary>
/// <remarks>
/// .NET's <see cref="GZipStream"/> ends quietly where a file is cut short in some places, ignores bytes after the
/// member and joins several members. So it is used for the deflate data only; the member's header, checksum, length and
/// end are checked here. To know where the deflate data ended although the inflater reads ahead, the last bytes of the
/// file are handed to it one at a time (<see cref="TailStream"/>). One thread at a time. The stream stays the caller's.
/// </remarks>
internal sealed class GzipMemberReader : SnapshotInput
{
    private const int TrailerBytes = 8;
    private const int FlagHeaderChecksum = 2;
    private const int FlagExtra = 4;
    private const int FlagName = 8;
    private const int FlagComment = 16;
    private const int FlagsReserved = 0xE0;

    private readonly TailStream _file;
    private readonly DeflateStream _inflater;
    private uint _crc = Crc32.Start;
    private uint _length;
    private bool _ended;

    /// <exception cref="SnapshotFormatException">The stream does not begin with a gzip header.</exception>
    public GzipMemberReader(Stream source)
    {
        _file = new TailStream(source);
        ReadHeader();
        _inflater = new DeflateStream(_file, CompressionMode.Decompress, leaveOpen: true);
    }

    /// <inheritdoc/>
    public override int Read(Span<byte> target)
    {
        if (_ended || target.IsEmpty)
        {
            return 0;
        }

        int count;
        try
        {
            count = _inflater.Read(target);
        }
        catch (InvalidDataException e)
        {
            throw new SnapshotFormatException($"corrupt or truncated gzip data near byte {_file.Taken}", e);
        }

        if (count == 0)
        {
            VerifyTrailer();
            _ended = true;
            return 0;
        }

        _crc = Crc32.Append(_crc, target[..count]);
        _length += (uint)count;
        return count;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _inflater.Dispose();
            _file.Dispose();
        }
    }

    private void VerifyTrailer()
    {
        Span<byte> trailer = stackalloc byte[TrailerBytes];
        var left = _file.TakeRest(trailer);
        if (left < TrailerBytes)
        {
            throw new SnapshotFormatException($"truncated: the gzip data stops after {_file.Taken} bytes");
        }

        if (left > TrailerBytes)
        {
            throw new SnapshotFormatException("bytes after the end of the gzip data");
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(trailer) != Crc32.Finish(_crc))
        {
            throw new SnapshotFormatException("corrupt: the gzip checksum does not match");
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(trailer[4..]) != _length)
        {
            throw new SnapshotFormatException("corrupt: the gzip length does not match");
        }
    }

    private void ReadHeader()
    {
        // 1F 8B, method 8, flags, time (4), level, system.
        Span<byte> head = stackalloc byte[10];
        foreach (ref var value in head)
        {
            value = NextHeaderByte();
        }

        if (head[0] != 0x1F || head[1] != 0x8B || head[2] != 8 || (head[3] & FlagsReserved) != 0)
        {
            throw new SnapshotFormatException("not a gzip file");
        }

        var flags = head[3];
        if ((flags & FlagExtra) != 0)
        {
            for (var left = NextHeaderByte() | (NextHeaderByte() << 8); left > 0; left--)
            {
                _ = NextHeaderByte();
            }
        }

        SkipText((flags & FlagName) != 0);
        SkipText((flags & FlagComment) != 0);
        if ((flags & FlagHeaderChecksum) != 0)
        {
            _ = NextHeaderByte();
            _ = NextHeaderByte();
        }
    }

    private void SkipText(bool present)
    {
        while (present)
        {
            present = NextHeaderByte() != 0;
        }
    }

    private byte NextHeaderByte()
    {
        var value = _file.ReadByte();
        return value < 0 ? throw new SnapshotFormatException("truncated: ends inside the gzip header") : (byte)value;
    }

    /// <summary>
    /// A file read in chunks, but its last bytes one at a time: a reader that stops near the end of the file has then
    /// taken not a byte more than it needed.
    /// </summary>
    private sealed class TailStream(Stream source) : Stream
    {
        // Anything over the trailer's 8: if more is left when the inflater stops, it is rubbish.
        private const int TailBytes = 32;

        private readonly byte[] _buffer = new byte[64 * 1024];
        private int _offset;
        private int _length;
        private bool _sourceEnded;

        /// <summary>Bytes handed out.</summary>
        public long Taken { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        private int Available => _length - _offset;

        public override int Read(Span<byte> buffer)
        {
            Fill();
            var allowed = Available > TailBytes ? Available - TailBytes : Math.Min(Available, 1);
            var count = Math.Min(allowed, buffer.Length);
            _buffer.AsSpan(_offset, count).CopyTo(buffer);
            _offset += count;
            Taken += count;
            return count;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        /// <summary>Copies what nobody took; the result is how much there is, at most one more than fits.</summary>
        public int TakeRest(Span<byte> target)
        {
            Fill();
            _buffer.AsSpan(_offset, Math.Min(Available, target.Length)).CopyTo(target);
            return Math.Min(Available, target.Length + 1);
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        /// <summary>Afterwards more than the tail is at hand, or all that is left.</summary>
        private void Fill()
        {
            if (_sourceEnded || Available > TailBytes)
            {
                return;
            }

            _buffer.AsSpan(_offset, Available).CopyTo(_buffer);
            _length = Available;
            _offset = 0;
            while (_length <= TailBytes && !_sourceEnded)
            {
                var count = source.Read(_buffer, _length, _buffer.Length - _length);
                _length += count;
                _sourceEnded = count == 0;
            }
        }
    }
}
