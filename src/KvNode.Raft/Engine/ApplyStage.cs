using System.Runtime.InteropServices;
using KvNode.Native;
using KvNode.Raft.Core;

namespace KvNode.Raft.Engine;

/// <summary>
/// Takes committed entries through the state machine and answers this node's batches, in order. One dedicated thread, so that
/// the next entries' way through the log overlaps; or whoever has the turn, when it is soon done.
/// </summary>
/// <remarks>Whichever thread applies, only one does at a time, and in order.</remarks>
internal sealed class ApplyStage
{
    private readonly IReplicatedStateMachine _machine;
    private readonly OutstandingBatches _outstanding;
    private readonly ulong _node;
    private readonly ulong _incarnation;
    private readonly Action<ulong> _applied;
    private readonly object _gate = new();
    private readonly Signal _signal = new();
    private List<LogEntry> _entries = [];
    private List<LogEntry> _taken = [];
    private readonly List<CommittedEntry> _items = [];
    private readonly List<Answer> _answers = [];
    private readonly List<ProposalBatch> _reads = [];
    private EngineState _state;
    private bool _poked;

    // What waits is the thread's: it takes too long for others.
    private bool _isThreads;
    private bool _busy;
    private bool _closed;
    private bool _failed;
    private ulong _appliedIndex;

    /// <param name="applied">Told the index that is applied, by the thread that applied it; not for <see cref="TryRunHere(ReadOnlySpan{LogEntry})"/>.</param>
    public ApplyStage(
        IReplicatedStateMachine machine,
        OutstandingBatches outstanding,
        EngineState state,
        ulong appliedIndex,
        NodeStart start,
        Action<ulong> applied)
    {
        _machine = machine;
        _outstanding = outstanding;
        _state = state;
        _appliedIndex = appliedIndex;
        _node = start.NodeId;
        _incarnation = start.Incarnation;
        _applied = applied;
    }

    private readonly record struct Answer(ProposalBatch Batch, ProposalOutcome Outcome);

    public ulong AppliedIndex => Volatile.Read(ref _appliedIndex);

    /// <summary>Hands committed entries over, for <see cref="TryRunHere()"/> or <see cref="Wake"/>; their payloads stay until they are
    /// reported applied.</summary>
    public void HandOver(ReadOnlySpan<LogEntry> entries)
    {
        lock (_gate)
        {
            _entries.AddRange(entries);
        }
    }

    /// <summary>As <see cref="HandOver"/>: something among the outstanding batches can be answered that needs no entry.</summary>
    public void HandOverAnswers()
    {
        lock (_gate)
        {
            _poked = true;
        }
    }

    /// <summary>The thread shall do what was handed over, and nobody else.</summary>
    public void Wake()
    {
        lock (_gate)
        {
            _isThreads = true;
        }

        _signal.Set();
    }

    /// <summary>Does what was handed over on the caller's thread, if the other one has nothing to do.</summary>
    /// <returns>False: it has.</returns>
    public bool TryRunHere() => RunOnce(isThread: false);

    /// <summary>Applies on the caller's thread, and answers what can be answered, if the other one is idle.</summary>
    /// <returns>False: it is not, hand over.</returns>
    public bool TryRunHere(ReadOnlySpan<LogEntry> entries)
    {
        lock (_gate)
        {
            if (_busy || _entries.Count > 0 || _poked || _failed)
            {
                return false;
            }

            _busy = true;
        }

        _taken.AddRange(entries);
        Process();
        bool isMore;
        lock (_gate)
        {
            _busy = false;
            Monitor.PulseAll(_gate);
            isMore = _entries.Count > 0 || _poked || _closed;
        }

        if (isMore)
        {
            _signal.Set();
        }

        return true;
    }

    /// <summary>Runs an action that replaces the state, while nothing is applied. Waits for what was handed over before.</summary>
    public void Replace(ulong index, EngineState state, Action action)
    {
        lock (_gate)
        {
            while ((_busy || _entries.Count > 0) && !_failed)
            {
                _ = Monitor.Wait(_gate);
            }

            if (_failed)
            {
                // Not as if it were done: the log would go on from a state that is not there.
                throw new InvalidOperationException("the node is ending: the state was not replaced");
            }

            _busy = true;
        }

        action();
#if PLANTED_BUGS
        if (Planted.Is(Bug.SnapshotDropsSessions))
        {
            var membership = state.Membership;
            state = new EngineState();
            state.SetMembership(membership);
        }
#endif
        _state = state;
        Volatile.Write(ref _appliedIndex, index);
        GiveUpExecuted();
        lock (_gate)
        {
            _busy = false;
            _poked = true;
        }

        _signal.Set();
    }

    /// <summary>Something was handed over, or can be answered.</summary>
    public bool HasWork
    {
        get
        {
            lock (_gate)
            {
                return _entries.Count > 0 || _poked;
            }
        }
    }

    /// <summary>The thread's work, until <see cref="Close"/> and all is applied, or <see cref="Abandon"/>.</summary>
    public void Run()
    {
        while (WaitForWork())
        {
            _ = RunOnce(isThread: true);
        }
    }

    /// <summary>Applies and answers what is there, without waiting for it. The thread's work in one step, for whoever has no
    /// thread for it.</summary>
    /// <returns>False: there is nothing to do, or it is being done.</returns>
    public bool RunOnce() => RunOnce(isThread: true);

    private bool RunOnce(bool isThread)
    {
        bool any;
        lock (_gate)
        {
            if (_busy || _failed || (_entries.Count == 0 && !_poked) || (_isThreads && !isThread))
            {
                return false;
            }

            _isThreads = false;
            any = _entries.Count > 0;
            (_entries, _taken) = (_taken, _entries);
            _poked = false;
            _busy = true;
        }

        Process();
        lock (_gate)
        {
            _busy = false;
            Monitor.PulseAll(_gate);
        }

        if (any)
        {
            _applied(AppliedIndex);
        }

        return true;
    }

    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
        }

        _signal.Set();
    }

    /// <summary>Stops at once, without answering anything more. Any thread.</summary>
    public void Abandon()
    {
        lock (_gate)
        {
            _failed = true;
            Monitor.PulseAll(_gate);
        }

        _signal.Set();
    }

    /// <summary>Until there is something to do or the end has come. False: the end has.</summary>
    private bool WaitForWork()
    {
        while (true)
        {
            _signal.Reset();
            lock (_gate)
            {
                if (_failed)
                {
                    return false;
                }

                if (!_busy && (_entries.Count > 0 || _poked || _closed))
                {
                    return _entries.Count > 0 || _poked;
                }
            }

            _signal.Wait(Timeout.Infinite);
        }
    }

    /// <summary>What was executed within the state that was taken over was not executed here: there are no results.</summary>
    private void GiveUpExecuted() =>
        _outstanding.Visit(_state.Executed(_node, _incarnation), static (executed, ref item) =>
        {
            if (!item.IsRead && item.Number <= executed && item.State != OutstandingBatches.State.Failed)
            {
                item.Fail(new ProposalOutcome(ProposalStatus.Unknown));
            }

            return true;
        });

    private void Process()
    {
        if (_taken.Count > 0)
        {
            foreach (ref readonly var entry in CollectionsMarshal.AsSpan(_taken))
            {
                Add(entry);
            }

            _machine.Apply(CollectionsMarshal.AsSpan(_items), _state.Encode());
            Volatile.Write(ref _appliedIndex, _taken[^1].Id.Index);
            _taken.Clear();
            _items.Clear();
            AnswerAll();
        }

        ServeReady();
    }

    private void Add(in LogEntry entry)
    {
        var before = _items.Count;
        if (entry.Kind == EntryKind.Normal)
        {
            var payload = entry.Payload;
            while (SubBatch.TryRead(ref payload, out var batch))
            {
                if (_state.TryExecute(batch, entry.Id.Index))
                {
                    _items.Add(new CommittedEntry(entry.Id, EntryKind.Normal, batch.Payload, TakeOwn(batch, entry.Id)));
                }
            }
        }
        else if (entry.Kind == EntryKind.Configuration
            && _state.Membership.TryApply(ConfigurationChange.Decode(entry.Payload.Span), out _) is { } membership)
        {
            _state.SetMembership(membership);
        }

        if (_items.Count == before)
        {
            _items.Add(new CommittedEntry(entry.Id, EntryKind.Empty, default, Batch: null));
        }
    }

    /// <summary>
    /// The batch that waits for this execution, if it is this node's. Reads proposed before it run right before it: what
    /// was acknowledged when they came is in earlier entries. Writes before it that are not in the log by now never
    /// will be executed.
    /// </summary>
    private ProposalBatch? TakeOwn(in SubBatch batch, EntryId id)
    {
        if (batch.Origin != _node || batch.Incarnation != _incarnation)
        {
            return null;
        }

        while (_outstanding.TryTakeThrough(batch.Sequence, out var item))
        {
            if (item.IsRead)
            {
                _answers.Add(new Answer(item.Batch, item.Answer));
                if (item.State != OutstandingBatches.State.Failed)
                {
                    _items.Add(new CommittedEntry(id, EntryKind.Normal, default, item.Batch));
                }
            }
            else if (item.Number == batch.Sequence)
            {
                _answers.Add(new Answer(item.Batch, new ProposalOutcome(ProposalStatus.Committed)));
                return item.Batch;
            }
            else
            {
#if PLANTED_BUGS
                if (Planted.Is(Bug.AnswersTheSuperseded))
                {
                    _answers.Add(new Answer(item.Batch, new ProposalOutcome(ProposalStatus.Committed)));
                    continue;
                }
#endif
                _answers.Add(new Answer(item.Batch, item.State == OutstandingBatches.State.Failed
                    ? item.Outcome
                    : new ProposalOutcome(ProposalStatus.Superseded)));
            }
        }

        return null;
    }

    private void AnswerAll()
    {
        foreach (var (batch, outcome) in _answers)
        {
            batch.Complete(outcome);
        }

        _answers.Clear();
    }

    private void ServeReady()
    {
        var index = AppliedIndex;
        while (_outstanding.TryTakeReady(index, out var item))
        {
            _answers.Add(new Answer(item.Batch, item.Answer));
            if (item.State != OutstandingBatches.State.Failed)
            {
                _reads.Add(item.Batch);
            }
        }

        if (_answers.Count == 0)
        {
            return;
        }

        if (_reads.Count > 0)
        {
            _machine.Read(CollectionsMarshal.AsSpan(_reads));
            _reads.Clear();
        }

        AnswerAll();
    }
}

/// <summary>Which node this is, and which of its lives.</summary>
internal readonly record struct NodeStart(ulong NodeId, ulong Incarnation);
