using System.Buffers;
using System.IO.Pipelines;
using KvNode.Server.Commands;

namespace KvNode.Server.Sessions;

/// <summary>
/// The way out to one client: never waits for it, knows when it is behind, and gives up on one that stays behind with
/// too much.
/// </summary>
/// <remarks>
/// <para>Any thread may send. A flush that the client's slowness keeps pending is finished by its own continuation,
/// which also flushes what was added meanwhile.</para>
/// </remarks>
internal sealed class SessionOutput
{
    private readonly Lock _lock = new();
    private readonly PipeWriter _writer;
    private readonly ServerStats _stats;
    private readonly long _bytesMax;
    private readonly Action<string> _abort;
    private readonly Action _onFlushed;
    private ValueTask<FlushResult> _flush;
    private TaskCompletionSource? _flushed;
    private bool _flushing;
    private bool _completed;
    private long _heldBytes;
    private long _stalledSinceMs;

    public SessionOutput(PipeWriter writer, ServerStats stats, long bytesMax, Action<string> abort)
    {
        _writer = writer;
        _stats = stats;
        _bytesMax = bytesMax;
        _abort = abort;
        _onFlushed = OnFlushed;
    }

    /// <summary>The client is gone: nothing more can be sent.</summary>
    public bool Closed { get; private set; }

    /// <summary>The client has not yet taken all that was sent.</summary>
    public bool Behind => Volatile.Read(ref _flushing);

    /// <summary>Bytes answered and not yet handed to the socket since the client fell behind.</summary>
    public long UnsentBytes { get; private set; }

    /// <summary>For how long the client has been behind, in milliseconds; 0 when it is not.</summary>
    public long StalledMs => Behind ? Math.Max(1, Environment.TickCount64 - Volatile.Read(ref _stalledSinceMs)) : 0;

    /// <summary>Sends bytes, or keeps them while the client is behind. Past the limit the client is cut off, and they are not
    /// even copied: no socket takes that much at once.</summary>
    public void Send(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return;
        }

        lock (_lock)
        {
            if (_completed || Closed)
            {
                return;
            }

            Interlocked.Add(ref _stats.NetOutputBytes, bytes.Length);
            UnsentBytes += bytes.Length;
            CheckLimit();
            if (Closed)
            {
                return;
            }

            _writer.Write(bytes);
            if (!_flushing)
            {
                StartFlush(_writer.UnflushedBytes);
            }
        }
    }

    /// <summary>Counts bytes that are kept for the client elsewhere, until <see cref="Release"/>, as unsent. Past the limit the
    /// client is cut off.</summary>
    /// <returns>False when the connection is over: they need not be kept.</returns>
    public bool Hold(int bytes)
    {
        lock (_lock)
        {
            if (_completed || Closed)
            {
                return false;
            }

            _heldBytes += bytes;
            CheckLimit();
            return !Closed;
        }
    }

    /// <summary>Sends what was kept.</summary>
    public void Release(ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            _heldBytes -= bytes.Length;
        }

        Send(bytes);
    }

    /// <summary>Completes when the client has taken everything, or is gone.</summary>
    public ValueTask WhenFlushedAsync()
    {
        lock (_lock)
        {
            if (!_flushing)
            {
                return default;
            }

            _flushed ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return new ValueTask(_flushed.Task);
        }
    }

    /// <summary>Cuts the client off now.</summary>
    public void Abort(string reason)
    {
        lock (_lock)
        {
            if (!Closed)
            {
                Closed = true;
                _abort(reason);
            }
        }
    }

    /// <summary>No more will be sent; what was sent still goes out.</summary>
    public void Complete()
    {
        lock (_lock)
        {
            if (!_completed)
            {
                _completed = true;
                _writer.Complete();
            }
        }
    }

    // Under the lock.
    private void CheckLimit()
    {
        if (UnsentBytes + _heldBytes > _bytesMax)
        {
            Closed = true;
            Interlocked.Increment(ref _stats.ClientsClosedByLimit);
            _abort("output buffer limit reached");
        }
    }

    // Under the lock.
    private void StartFlush(long bytes)
    {
        UnsentBytes = 0;
        if (!TryFlush(out _flush))
        {
            Closed = true;
            return;
        }

        if (_flush.IsCompleted)
        {
            Closed |= FlushEnded(_flush);
            return;
        }

        UnsentBytes = bytes;
        Volatile.Write(ref _stalledSinceMs, Environment.TickCount64);
        Volatile.Write(ref _flushing, true);
        _flush.GetAwaiter().UnsafeOnCompleted(_onFlushed);
    }

    // False when the connection is over: the pipe throws at once what its reader failed with, see FlushEnded.
    private bool TryFlush(out ValueTask<FlushResult> flush)
    {
        try
        {
            flush = _writer.FlushAsync();
            return true;
        }
        catch (Exception)
        {
            flush = default;
            return false;
        }
    }

    private void OnFlushed()
    {
        TaskCompletionSource? waiter;
        lock (_lock)
        {
            Volatile.Write(ref _flushing, false);
            UnsentBytes = 0;
            Closed |= FlushEnded(_flush);
            if (!Closed && !_completed && _writer.UnflushedBytes > 0)
            {
                StartFlush(_writer.UnflushedBytes);
                if (_flushing)
                {
                    return;
                }
            }

            waiter = _flushed;
            _flushed = null;
        }

        waiter?.SetResult();
    }

    // True when the connection is over. The transport hands on whatever its socket failed with (a peer that vanished is
    // a SocketException, which is no IOException), here and on every later flush. It reports it through the input side
    // too; here it must end nothing but this connection, least of all the apply thread, on which most flushes run.
    private static bool FlushEnded(ValueTask<FlushResult> flush)
    {
        try
        {
            return flush.GetAwaiter().GetResult().IsCompleted;
        }
        catch (Exception)
        {
            return true;
        }
    }
}
