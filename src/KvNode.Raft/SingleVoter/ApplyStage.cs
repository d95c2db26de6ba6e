namespace KvNode.Raft.SingleVoter;

/// <summary>
/// Takes committed entries through the state machine and tells their proposers. One dedicated thread, so that the next
/// frame's sync overlaps this frame's apply; or the log's thread itself, when there is nothing to overlap with.
/// </summary>
/// <remarks>Whichever thread applies, only one does at a time, and in order.</remarks>
internal sealed class ApplyStage
{
    private readonly IReplicatedStateMachine _machine;
    private readonly long _bytesMax;
    private readonly Action<Exception> _fail;
    private readonly object _gate = new();
    private readonly Thread _thread;

    private CommittedEntry[] _entries = new CommittedEntry[64];
    private ProposalOutcome[] _outcomes = new ProposalOutcome[64];
    private int _count;
    private long _bytes;

    // The second pair of arrays, of the thread that applies.
    private CommittedEntry[] _takenEntries = new CommittedEntry[64];
    private ProposalOutcome[] _takenOutcomes = new ProposalOutcome[64];

    private bool _busy;
    private bool _threadWaits;
    private bool _closed;
    private bool _failed;
    private ulong _appliedIndex;

    /// <param name="bytesMax">Payload that may wait here.</param>
    /// <param name="fail">Called when the machine throws; nothing is applied or completed after.</param>
    public ApplyStage(IReplicatedStateMachine machine, ulong appliedIndex, long bytesMax, Action<Exception> fail)
    {
        _machine = machine;
        _appliedIndex = appliedIndex;
        _bytesMax = bytesMax;
        _fail = fail;
        _thread = new Thread(Run) { Name = "apply", IsBackground = true };
        _thread.Start();
    }

    public ulong AppliedIndex => Volatile.Read(ref _appliedIndex);

    /// <summary>Hands a turn over; waits while too much is waiting already. For the log's thread.</summary>
    /// <param name="mayRunHere">Apply on this thread if the other one is idle.</param>
    public void Accept(Turn turn, bool mayRunHere)
    {
        lock (_gate)
        {
            while (_bytes > 0 && _bytes + turn.Bytes > _bytesMax && !_failed)
            {
                _ = Monitor.Wait(_gate);
            }

            if (_failed)
            {
                return;
            }

            if (!mayRunHere || _busy || _count > 0)
            {
                Add(turn);
                return;
            }

            _busy = true;
        }

        RunHere(turn);
    }

    /// <summary>Applies all that was handed over, then ends the thread.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
            Monitor.PulseAll(_gate);
        }

        _thread.Join();
    }

    /// <summary>Stops at once, without completing anything. Any thread.</summary>
    public void Abandon()
    {
        lock (_gate)
        {
            _failed = true;
            Monitor.PulseAll(_gate);
        }
    }

    private void RunHere(Turn turn)
    {
        ApplyAll(turn.Entries, turn.Outcomes);
        lock (_gate)
        {
            _busy = false;
        }
    }

    private void Add(Turn turn)
    {
        var count = _count + turn.Count;
        if (count > _entries.Length)
        {
            var capacity = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)count);
            Array.Resize(ref _entries, capacity);
            Array.Resize(ref _outcomes, capacity);
        }

        turn.Entries.CopyTo(_entries.AsSpan(_count));
        turn.Outcomes.CopyTo(_outcomes.AsSpan(_count));
        _count = count;
        _bytes += turn.Bytes;
        if (_threadWaits)
        {
            _threadWaits = false;
            Monitor.PulseAll(_gate);
        }
    }

    private void Run()
    {
        while (TryTake(out var count, out var bytes))
        {
            ApplyAll(_takenEntries.AsSpan(0, count), _takenOutcomes.AsSpan(0, count));
            _takenEntries.AsSpan(0, count).Clear();
            _takenOutcomes.AsSpan(0, count).Clear();
            lock (_gate)
            {
                _busy = false;
                _bytes -= bytes;
                Monitor.PulseAll(_gate);
            }
        }
    }

    private bool TryTake(out int count, out long bytes)
    {
        lock (_gate)
        {
            while (_count == 0 && !_closed && !_failed)
            {
                _threadWaits = true;
                _ = Monitor.Wait(_gate);
            }

            _threadWaits = false;
            (count, bytes) = (_count, _bytes);
            if (_count == 0 || _failed)
            {
                return false;
            }

            Invariant.Check(!_busy);
            (_entries, _takenEntries) = (_takenEntries, _entries);
            (_outcomes, _takenOutcomes) = (_takenOutcomes, _outcomes);
            _count = 0;
            _busy = true;
            return true;
        }
    }

    private void ApplyAll(ReadOnlySpan<CommittedEntry> entries, ReadOnlySpan<ProposalOutcome> outcomes)
    {
        try
        {
            for (var start = 0; start < entries.Length;)
            {
                var end = start;
                while (end < entries.Length && outcomes[end].Status == ProposalStatus.Committed)
                {
                    end++;
                }

                if (end > start)
                {
                    _machine.Apply(entries[start..end], engineState: default);
                    Volatile.Write(ref _appliedIndex, entries[end - 1].Id.Index);
                }
                else
                {
                    end++;
                }

                for (; start < end; start++)
                {
                    entries[start].Batch?.Complete(outcomes[start]);
                }
            }
        }
        catch (Exception e)
        {
            Abandon();
            _fail(e);
        }
    }
}
