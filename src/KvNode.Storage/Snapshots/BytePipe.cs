namespace KvNode.Storage.Snapshots;

/// <summary>
/// Bytes from one thread to another through a bounded buffer: written by pieces, read as a stream.
/// </summary>
/// <remarks>One writer and one reader at a time. <see cref="Close"/> is the reader's, <see cref="End"/> and <see
/// cref="Abandon"/> are the writer's.</remarks>
internal sealed class BytePipe : Stream
{
    private const int BufferBytes = 1024 * 1024;

    private readonly object _gate = new();
    private readonly byte[] _buffer = new byte[BufferBytes];
    private int _start;
    private int _length;
    private bool _ended;
    private bool _abandoned;
    private bool _readerGone;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Hands over all of the bytes, waiting for room.</summary>
    /// <returns>False when the reader is gone; some bytes may have been taken.</returns>
    public bool TryWrite(ReadOnlySpan<byte> bytes)
    {
        lock (_gate)
        {
            while (!bytes.IsEmpty)
            {
                while (_length == BufferBytes && !_readerGone)
                {
                    _ = Monitor.Wait(_gate);
                }

                if (_readerGone)
                {
                    return false;
                }

                var end = (_start + _length) % BufferBytes;
                var count = Math.Min(Math.Min(bytes.Length, BufferBytes - _length), BufferBytes - end);
                bytes[..count].CopyTo(_buffer.AsSpan(end));
                bytes = bytes[count..];
                _length += count;
                Monitor.PulseAll(_gate);
            }

            return true;
        }
    }

    /// <summary>No more bytes come; the reader gets what is left, then the end.</summary>
    public void End()
    {
        lock (_gate)
        {
            _ended = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>The reader's next read fails instead of waiting.</summary>
    public void Abandon()
    {
        lock (_gate)
        {
            _abandoned = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>The reader reads no more; the writer must not wait for it.</summary>
    public override void Close()
    {
        lock (_gate)
        {
            _readerGone = true;
            Monitor.PulseAll(_gate);
        }

        base.Close();
    }

    /// <exception cref="IOException">The writer gave up.</exception>
    public override int Read(Span<byte> buffer)
    {
        lock (_gate)
        {
            while (_length == 0 && !_ended && !_abandoned)
            {
                _ = Monitor.Wait(_gate);
            }

            if (_abandoned)
            {
                throw new IOException("the sender of the bytes gave up");
            }

            var count = Math.Min(Math.Min(buffer.Length, _length), BufferBytes - _start);
            _buffer.AsSpan(_start, count).CopyTo(buffer);
            _start = (_start + count) % BufferBytes;
            _length -= count;
            Monitor.PulseAll(_gate);
            return count;
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
