using System.Security.Cryptography;
using KvNode.Native;
using KvNode.Raft.Wal;

namespace KvNode.Raft.SingleVoter;

/// <summary>
/// The consensus engine of a cluster of one: it is always the leader, and its own disk is the quorum.
/// </summary>
/// <remarks>
/// Two threads: the log's (<see cref="CommitLoop"/>) and the state machine's (<see cref="ApplyStage"/>). Apply and
/// Complete run on either, never on both at once. A failed sync, a failed write other than "disk full", and an
/// exception out of the state machine are fatal: the callback is called once, and nothing is completed any more.
/// </remarks>
public sealed class SingleVoterEngine : IConsensusEngine
{
    private const string NotSupported = "this node runs alone: membership changes are not available";

    private readonly SingleVoterOptions _options;
    private readonly ISnapshotStore _snapshots;
    private readonly Action<Exception> _fatal;
    private readonly IDisk? _disk;
    private readonly WalOptions _walOptions;
    private readonly ProposalQueue _proposals = new();
    private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _admin = new(1);
    private IReplicatedStateMachine? _machine;
    private WriteAheadLog? _log;
    private ApplyStage? _apply;
    private CommitLoop? _loop;
    private volatile bool _leading;
    private int _failed;
    private int _disposed;

    /// <param name="fatal">Told why the engine cannot go on; must end the process. Any thread; called once.</param>
    public SingleVoterEngine(SingleVoterOptions options, ISnapshotStore snapshots, Action<Exception> fatal)
        : this(options, snapshots, fatal, disk: null, new WalOptions { SegmentBytes = options.SegmentBytes })
    {
    }

    internal SingleVoterEngine(
        SingleVoterOptions options,
        ISnapshotStore snapshots,
        Action<Exception> fatal,
        IDisk? disk,
        WalOptions walOptions)
    {
        _options = options;
        _snapshots = snapshots;
        _fatal = fatal;
        _disk = disk;
        _walOptions = walOptions;
    }

    public event Action<LeaderChange>? LeaderChanged;

    /// <summary>
    /// What the start cut off the end of the log and why, for people; null if nothing was. Nothing acknowledged is lost
    /// by it at the durability the log was written with.
    /// </summary>
    public string? TornTail => _log?.Image.TornTail;

    public EngineCapabilities Capabilities => EngineCapabilities.DurableAck;

    public EngineMetrics Metrics
    {
        get
        {
            var log = _log?.Metrics ?? default;
            return new EngineMetrics(
                log.Entries,
                _loop?.Batches ?? 0,
                log.Syncs,
                log.SyncMicroseconds,
                log.SyncMicrosecondsMax,
                log.BytesWritten);
        }
    }

    public NodeStatus Status
    {
        get
        {
            var loop = _loop;
            var log = _log;
            var last = loop?.LastCommitted ?? default;
            var over = Volatile.Read(ref _disposed) + Volatile.Read(ref _failed) > 0;
            var role = _leading ? RaftRole.Leader : over ? RaftRole.Shutdown : RaftRole.Follower;
            return new NodeStatus
            {
                NodeId = _options.NodeId,
                Role = role,
                Term = loop?.Term ?? 0,
                LeaderAddress = _leading ? _options.Address : null,
                CommitIndex = last.Index,
                AppliedIndex = _apply?.AppliedIndex ?? 0,
                DurableIndex = log?.DurableIndex ?? 0,
                LastLog = last,
                FirstLogIndex = log?.FirstIndex ?? 1,
                LastSnapshot = _snapshots.Latest,
                Members = [new RaftMember(_options.NodeId, _options.Address, Voter: true, role)],
                LogBytes = log?.Bytes ?? 0,
                WriteRefusal = loop?.Refusal ?? _machine?.WriteRefusal,
            };
        }
    }

    /// <inheritdoc/>
    public ValueTask StartAsync(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        Invariant.Check(_machine is null);
        _machine = machine;
        new Thread(() => Run(machine, cancellationToken)) { Name = "wal", IsBackground = true }.Start();
        return new ValueTask(_started.Task);
    }

    /// <inheritdoc/>
    public void Propose(ProposalBatch batch)
    {
        // After a fatal error nothing is answered: the process is about to end.
        if (!_proposals.TryEnqueue(batch) && Volatile.Read(ref _failed) == 0)
        {
            // Not on the caller's stack: it may hold what Complete needs.
            _ = ThreadPool.UnsafeQueueUserWorkItem(
                static batch =>
                {
                    _ = batch.Seal();
                    batch.Complete(new ProposalOutcome(ProposalStatus.Dropped, Reason: "the node is shutting down"));
                },
                batch,
                preferLocal: false);
        }
    }

    /// <summary>
    /// All levels are the same here: what was acknowledged has been applied, and nobody else can lead.
    /// </summary>
    public ValueTask<ReadBarrier> ReadBarrierAsync(ReadLevel level) =>
        ValueTask.FromResult(new ReadBarrier(_leading, _apply?.AppliedIndex ?? 0, LeaderHint: null));

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change) =>
        ValueTask.FromResult(new AdminOutcome(false, NotSupported));

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> TransferLeadershipAsync(ulong? target) =>
        ValueTask.FromResult(new AdminOutcome(false, "this node runs alone: there is nobody to lead in its place"));

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> SnapshotNowAsync() => RunAdminAsync(machine =>
    {
        using var reader = machine.OpenSnapshot();
        return _snapshots.Save(reader);
    });

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> ShrinkLogAsync() => RunAdminAsync(machine =>
    {
        machine.Checkpoint();
        var segments = _loop!.Retire();
        return $"{segments} log segments given up, the log begins at {_log!.FirstIndex}";
    });

    /// <inheritdoc/>
    public void EnsureLogDurable(ulong index)
    {
        try
        {
            Volatile.Read(ref _log)?.EnsureDurable(index);
        }
        catch (SyncFailedException e)
        {
            Fail(e);
            throw;
        }
    }

    /// <summary>Completes what was proposed, syncs, closes. Later proposals are dropped.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 1)
        {
            return;
        }

        _leading = false;
        _proposals.Close();
        if (_machine is not null)
        {
            await _stopped.Task;
        }

        await _admin.WaitAsync();
        _log?.Dispose();
        _admin.Dispose();
    }

    private void Run(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            if (TryStart(machine, cancellationToken))
            {
                _loop!.Run();
            }
        }
        catch (Exception e)
        {
            Fail(e);
        }
        finally
        {
            _leading = false;
            _stopped.SetResult();
        }
    }

    private bool TryStart(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            Recover(machine, cancellationToken);
        }
        catch (Exception e)
        {
            _proposals.Close();
            _apply?.Abandon();
            if (e is SyncFailedException)
            {
                Fail(e);
            }

            _started.SetException(e);
            return false;
        }

        _leading = true;
        _started.SetResult();
        if (LeaderChanged is { } changed)
        {
            var change = new LeaderChange(_loop!.Term, _options.Address, IsSelf: true);
            _ = ThreadPool.UnsafeQueueUserWorkItem(_ => changed(change), null);
        }

        return true;
    }

    private void Recover(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        var disk = _disk ?? FileDisk.OpenOrCreate(WalFormat.Folder(_options.LogDirectory));
        var log = WriteAheadLog.Open(disk, _walOptions, BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)));
        Volatile.Write(ref _log, log);
        log.Replay(machine.Durable, entries =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            machine.Apply(entries);
        });
        _apply = new ApplyStage(machine, log.Last.Index, _options.ApplyBytesMax, Fail);
        _loop = new CommitLoop(_options, log, machine, _proposals, _apply);
        _loop.Open();
    }

    private async ValueTask<AdminOutcome> RunAdminAsync(Func<IReplicatedStateMachine, string> action)
    {
        if (!_leading)
        {
            return new AdminOutcome(false, "the node is not running");
        }

        if (!await _admin.WaitAsync(TimeSpan.Zero))
        {
            return new AdminOutcome(false, "another snapshot or log change is being made");
        }

        try
        {
            return new AdminOutcome(true, await Task.Run(() => action(_machine!)));
        }
        catch (SyncFailedException e)
        {
            // What a sync had promised may be gone, here as anywhere.
            Fail(e);
            throw;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new AdminOutcome(false, e.Message);
        }
        finally
        {
            _ = _admin.Release();
        }
    }

    /// <summary>Stops answering at once and reports the cause to the owner: something beside the engine (the store) cannot
    /// go on. Any thread.</summary>
    public void Fail(Exception e)
    {
        _leading = false;
        var first = Interlocked.Exchange(ref _failed, 1) == 0;
        _apply?.Abandon();
        _proposals.Close(discard: true);
        if (first)
        {
            _fatal(e);
        }
    }
}
