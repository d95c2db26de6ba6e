using System.Buffers;
using System.Collections.Concurrent;

namespace KvNode.Raft.Transport;

/// <summary>
/// The bytes of one received frame, in the receiver's own memory. Made by <see cref="IFrameMemory.Rent"/>, filled by the
/// transport (at most one copy from the socket), then handed to the sink.
/// </summary>
internal abstract class FrameBuffer
{
    /// <summary>Exactly as long as asked for.</summary>
    public abstract Memory<byte> Memory { get; }

    /// <summary>Ends the use; exactly once, by whoever owns it. The transport does when a frame turns out to be broken.</summary>
    public abstract void Release();
}

/// <summary>Where frames are received into: the driver's arena, so that entries need no further copy on their way to the log.</summary>
internal interface IFrameMemory
{
    /// <summary>Any thread; several at a time.</summary>
    /// <param name="bytes">From 1 up to the largest frame.</param>
    FrameBuffer Rent(int bytes);
}

/// <summary>Frames in arrays of the shared pool; allocates nothing once warm.</summary>
internal sealed class PooledFrameMemory : IFrameMemory
{
    private const int KeptMax = 1024;

    private readonly ConcurrentQueue<Pooled> _free = [];

    public FrameBuffer Rent(int bytes)
    {
        if (!_free.TryDequeue(out var buffer))
        {
            buffer = new Pooled(this);
        }

        buffer.Take(bytes);
        return buffer;
    }

    private sealed class Pooled(PooledFrameMemory owner) : FrameBuffer
    {
        private byte[]? _array;
        private int _length;

        public override Memory<byte> Memory => _array.AsMemory(0, _length);

        public void Take(int bytes)
        {
            _array = ArrayPool<byte>.Shared.Rent(bytes);
            _length = bytes;
        }

        public override void Release()
        {
            var array = Interlocked.Exchange(ref _array, null);
            Invariant.Check(array is not null);
            ArrayPool<byte>.Shared.Return(array);
            if (owner._free.Count < KeptMax)
            {
                owner._free.Enqueue(this);
            }
        }
    }
}
