using System.Diagnostics;
using KvNode.Raft.Wal;

namespace KvNode.Raft.SingleVoter;

/// <summary>
/// The log's thread: gathers what waits, writes it as one frame, syncs once, hands it to the apply stage. While it
/// syncs, the next frame gathers by itself: group commit needs no timer.
/// </summary>
internal sealed class CommitLoop
{
    private const int BatchesPerFrameMax = 4096;

    // Room that must be there before writes are taken again after the disk was full.
    private const int ResumeBytes = 4096;

    private const string FullReason = "No space left on device";

    private readonly SingleVoterOptions _options;
    private readonly WriteAheadLog _log;
    private readonly IReplicatedStateMachine _machine;
    private readonly ProposalQueue _proposals;
    private readonly ApplyStage _apply;
    private readonly Turn _turn = new();
    private readonly HardState _hardState;
    private bool _opened;
    private long _syncDueAt;
    private long _resumeDueAt;
    private string? _refusal;
    private ulong _committedIndex;
    private ulong _lastTerm;
    private long _batches;

    public CommitLoop(
        SingleVoterOptions options,
        WriteAheadLog log,
        IReplicatedStateMachine machine,
        ProposalQueue proposals,
        ApplyStage apply)
    {
        _options = options;
        _log = log;
        _machine = machine;
        _proposals = proposals;
        _apply = apply;
        _hardState = new HardState(Math.Max(log.HardState.Term, log.Last.Term) + 1, options.NodeId);
        _committedIndex = log.Last.Index;
        _lastTerm = log.Last.Term;
    }

    /// <summary>The term this process leads.</summary>
    public ulong Term => _hardState.Term;

    public string? Refusal => Volatile.Read(ref _refusal);

    /// <summary>The last entry that may be applied; all that are written are.</summary>
    public EntryId LastCommitted => new(Volatile.Read(ref _lastTerm), Volatile.Read(ref _committedIndex));

    public long Batches => Volatile.Read(ref _batches);

    /// <summary>
    /// Begins this process's term: term and vote, and an empty entry. On a full disk it leaves that for later and
    /// refuses proposals until then.
    /// </summary>
    public void Open()
    {
        _turn.AddHardState(_hardState);
        _turn.AddEntry(NextId(), EntryKind.Empty, default, batch: null);
        _opened = TryCommit(needsSync: true);
        if (_opened)
        {
            _apply.Accept(_turn, mayRunHere: true);
        }
        else if (_refusal is null)
        {
            RefuseFor(FullReason);
        }

        _turn.Clear();
    }

    /// <summary>Until the queue is closed and empty; then syncs.</summary>
    public void Run()
    {
        while (_proposals.Wait(TimeoutMs()))
        {
            RunDue();
            if (!_proposals.IsEmpty)
            {
                RunTurn();
            }
        }

        _apply.Close();
        _log.Sync();
    }

    /// <summary>Gives up the log that the machine does not need any more. Any thread.</summary>
    public int Retire() => _log.Retire(_machine.Durable.Index);

    private void RunTurn()
    {
        Gather();
        var firstSegment = _log.ActiveSegment;
        if (_turn.Records.Length > 0)
        {
            _ = TryCommit(needsSync: _options.Durability == Durability.High);
        }

        _apply.Accept(_turn, mayRunHere: _options.ApplyInlineWhenIdle && _proposals.IsEmpty);
        _turn.Clear();
        if (_log.ActiveSegment != firstSegment)
        {
            _ = Retire();
        }
    }

    private void Gather()
    {
        var id = NextId();
        while (_turn.Bytes < _options.FrameBytesMax && _turn.Count < BatchesPerFrameMax
            && _proposals.TryDequeue(out var batch))
        {
            Volatile.Write(ref _batches, _batches + 1);
            var refusal = _refusal ?? _machine.WriteRefusal;
            var payload = batch!.Seal();
            if (refusal is not null)
            {
                _turn.AddDropped(batch, refusal);
            }
            else if (payload.Length > WalFormat.EntryBytesMax)
            {
                _turn.AddDropped(batch, $"{payload.Length} bytes are more than {WalFormat.EntryBytesMax}");
            }
            else
            {
                _turn.AddEntry(id, EntryKind.Normal, payload, batch);
                id = id with { Index = id.Index + 1 };
            }
        }
    }

    /// <summary>Writes the turn's records. False: the disk is full, and the turn says so to its proposers.</summary>
    private bool TryCommit(bool needsSync)
    {
        try
        {
            _log.Append(_turn.Records);
            if (needsSync)
            {
                _log.Sync();
            }
        }
        catch (DiskFullException e)
        {
            _turn.DropAll(e.Message);
            RefuseUnlessRoom();
            return false;
        }

        Volatile.Write(ref _lastTerm, _log.Last.Term);
        Volatile.Write(ref _committedIndex, _log.Last.Index);
        if (_options.Durability == Durability.Medium && _syncDueAt == 0)
        {
            _syncDueAt = Stopwatch.GetTimestamp() + Ticks(_options.SyncInterval);
        }

        return true;
    }

    /// <summary>A large frame may lack room where small ones still find it.</summary>
    private void RefuseUnlessRoom()
    {
        try
        {
            _log.Reserve(ResumeBytes);
        }
        catch (DiskFullException e)
        {
            RefuseFor(e.Message);
            return;
        }

        Volatile.Write(ref _refusal, null);
    }

    private void RefuseFor(string reason)
    {
        _resumeDueAt = Stopwatch.GetTimestamp() + Ticks(_options.ResumeInterval);
        Volatile.Write(ref _refusal, reason);
    }

    private void RunDue()
    {
        if (_refusal is not null && Stopwatch.GetTimestamp() >= _resumeDueAt)
        {
            RefuseUnlessRoom();
            if (_refusal is null && !_opened)
            {
                Open();
            }
        }

        if (_syncDueAt != 0 && Stopwatch.GetTimestamp() >= _syncDueAt)
        {
            _syncDueAt = 0;
            _log.Sync();
        }
    }

    private int TimeoutMs()
    {
        var due = _syncDueAt == 0 ? long.MaxValue : _syncDueAt;
        if (_refusal is not null)
        {
            due = Math.Min(due, _resumeDueAt);
        }

        return due == long.MaxValue
            ? Timeout.Infinite
            : (int)Math.Max(0, Math.Ceiling(Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), due).TotalMilliseconds));
    }

    private EntryId NextId() => new(_hardState.Term, _log.Last.Index + 1);

    private static long Ticks(TimeSpan time) => (long)(time.TotalSeconds * Stopwatch.Frequency);
}
