namespace KvNode.Raft.SingleVoter;

/// <summary>
/// Proposals on their way to the log's thread: many producers, one consumer, no allocation once it has grown.
/// </summary>
/// <remarks>
/// Parked with Monitor.Wait under a flag and not with SemaphoreSlim, whose spinning takes the processor from the very
/// threads it waits for.
/// </remarks>
internal sealed class ProposalQueue
{
    private readonly object _gate = new();
    private ProposalBatch?[] _ring = new ProposalBatch?[64];
    private int _head;
    private volatile int _count;
    private bool _waiting;
    private bool _closed;

    public bool IsEmpty => _count == 0;

    /// <summary>False when the queue is closed.</summary>
    public bool TryEnqueue(ProposalBatch batch)
    {
        lock (_gate)
        {
            if (_closed)
            {
                return false;
            }

            if (_count == _ring.Length)
            {
                Grow();
            }

            _ring[(_head + _count) & (_ring.Length - 1)] = batch;
            _count++;
            if (_waiting)
            {
                _waiting = false;
                Monitor.Pulse(_gate);
            }

            return true;
        }
    }

    /// <summary>Waits for a proposal, the end or the time limit.</summary>
    /// <param name="timeoutMs">-1: none.</param>
    /// <returns>False when the queue is closed and empty.</returns>
    public bool Wait(int timeoutMs)
    {
        lock (_gate)
        {
            if (_count == 0 && !_closed)
            {
                _waiting = true;
                _ = Monitor.Wait(_gate, timeoutMs);
                _waiting = false;
            }

            return _count > 0 || !_closed;
        }
    }

    public bool TryDequeue(out ProposalBatch? batch)
    {
        lock (_gate)
        {
            if (_count == 0)
            {
                batch = null;
                return false;
            }

            batch = _ring[_head];
            _ring[_head] = null;
            _head = (_head + 1) & (_ring.Length - 1);
            _count--;
            return true;
        }
    }

    /// <summary>Takes no more.</summary>
    /// <param name="discard">What is in it is not handed out either.</param>
    public void Close(bool discard = false)
    {
        lock (_gate)
        {
            _closed = true;
            if (discard)
            {
                _count = 0;
                Array.Clear(_ring);
            }

            Monitor.PulseAll(_gate);
        }
    }

    private void Grow()
    {
        var larger = new ProposalBatch?[_ring.Length * 2];
        for (var i = 0; i < _count; i++)
        {
            larger[i] = _ring[(_head + i) & (_ring.Length - 1)];
        }

        _ring = larger;
        _head = 0;
    }
}
