using System.Diagnostics;
using KvNode.Native;
using KvNode.Raft.Core;
using KvNode.Raft.Identity;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Transport;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>
/// Raft as real threads: one for the core, one for the log, one for the state machine; see the README for the way of a write.
/// </summary>
/// <remarks>
/// A failed sync, a failed write other than "disk full", an exception out of the state machine and a broken invariant are
/// fatal: the callback is called once, and nothing is completed any more.
/// </remarks>
public sealed partial class RaftEngine : IConsensusEngine
{
    private readonly RaftOptions _options;
    private readonly ISnapshotStore _snapshots;
    private readonly Action<Exception> _fatal;
    private readonly Func<PeerIdentity, IPeerTransport> _connect;
    private readonly EngineDisks? _disks;
    private readonly Mailbox _mailbox = new();
    private readonly OutstandingBatches _outstanding = new();
    private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _admin = new(1);
    private readonly CancellationTokenSource _ending = new();

    // Outlives its source: what waits for the end may look at it after that.
    private readonly CancellationToken _end;
    private Task _keeping = Task.CompletedTask;
    private IReplicatedStateMachine? _machine;
    private NodeIdentity? _identity;
    private WriteAheadLog? _log;
    private PersistStage? _persist;
    private ApplyStage? _apply;
    private RaftDriver? _driver;
    private RaftCore? _core;
    private IPeerTransport? _links;
    private SnapshotTransfers? _transfers;
    private volatile bool _stopping;
    private int _failed;
    private int _disposed;
    private long _proposals;

    /// <param name="security">How peers prove that they belong.</param>
    /// <param name="notice">News of the connections between nodes, for the log. Any thread.</param>
    /// <param name="fatal">Told why the engine cannot go on; must end the process. Any thread; called once.</param>
    public RaftEngine(
        RaftOptions options,
        ISnapshotStore snapshots,
        TransportSecurity security,
        Action<PeerNotice> notice,
        Action<Exception> fatal)
        : this(
            options,
            snapshots,
            identity => new PeerTransport(new TransportOptions { Identity = identity, Security = security, Notice = notice }),
            fatal,
            disks: null)
    {
    }

    /// <param name="connect">Makes the way to the other members.</param>
    /// <param name="disks">Null: the directories of the options.</param>
    internal RaftEngine(
        RaftOptions options,
        ISnapshotStore snapshots,
        Func<PeerIdentity, IPeerTransport> connect,
        Action<Exception> fatal,
        EngineDisks? disks)
    {
        _disks = disks;
        _options = options;
        _snapshots = snapshots;
        _connect = connect;
        _fatal = fatal;
        _end = _ending.Token;
    }

    public event Action<LeaderChange>? LeaderChanged;

    /// <summary>What the start cut off the end of the log and why, for people; null if nothing was. Nothing acknowledged
    /// is lost by it at the durability the log was written with.</summary>
    public string? TornTail => _log?.Image.TornTail;

    /// <summary>Takes connections of other nodes; there once the engine has recovered.</summary>
    public IPeerAcceptor? Acceptor => _links as IPeerAcceptor;

    /// <inheritdoc/>
    public ValueTask StartAsync(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        Invariant.Check(_machine is null);
        _machine = machine;
        new Thread(() => Run(machine, cancellationToken)) { Name = "raft", IsBackground = true }.Start();
        return new ValueTask(_started.Task);
    }

    /// <inheritdoc/>
    public void Propose(ProposalBatch batch)
    {
        _ = Interlocked.Increment(ref _proposals);
        // After a fatal error nothing is answered: the process is about to end.
        if (!_mailbox.TryPropose(batch) && Volatile.Read(ref _failed) == 0)
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

    /// <summary>Stops answering at once and reports the cause to the owner: the engine, or something beside it (the store),
    /// cannot go on. Any thread.</summary>
    public void Fail(Exception e)
    {
        _stopping = true;
        var first = Interlocked.Exchange(ref _failed, 1) == 0;
        _apply?.Abandon();
        _mailbox.Close();
        if (first)
        {
            _fatal(e);
        }
    }

    /// <summary>Hands leadership over, completes what was proposed, syncs, closes. Later proposals are dropped.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 1)
        {
            return;
        }

        _mailbox.Close();
        if (_machine is not null)
        {
            await FinishAsync();
            _stopping = true;
            await _ending.CancelAsync();
            _mailbox.Post(static () => { });
            await _stopped.Task;
            await _keeping;
        }

        await _admin.WaitAsync();
        _links?.Dispose();
        if (_transfers is not null)
        {
            await _transfers.DisposeAsync();
        }

        _log?.Dispose();
        _admin.Dispose();
        _ending.Dispose();
    }

    private void Run(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            if (TryStart(machine, cancellationToken))
            {
                Loop();
            }
        }
        catch (Exception e)
        {
            Fail(e);
        }
        finally
        {
            _stopped.SetResult();
        }
    }

    private bool TryStart(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            Recover(machine, cancellationToken);
            return true;
        }
        catch (Exception e)
        {
            _mailbox.Close();
            _apply?.Abandon();
            if (e is SyncFailedException)
            {
                Fail(e);
            }

            _started.SetException(e);
            return false;
        }
    }

    private void Recover(IReplicatedStateMachine machine, CancellationToken cancellationToken)
    {
        _identity = _disks is null
            ? NodeIdentity.OpenOrCreate(_options.DataDirectory)
            : NodeIdentity.OpenOrCreate(_disks.Data, _disks.NewNodeId);
        CheckNotRemoved(_identity);
        var disk = _disks?.Log ?? FileDisk.OpenOrCreate(WalFormat.Folder(_options.LogDirectory));
        var wal = _disks?.Wal ?? new WalOptions { SegmentBytes = _options.SegmentBytes };
        var log = EngineStart.OpenLog(disk, wal, machine);
        Volatile.Write(ref _log, log);
        var state = EngineState.Decode(machine.EngineState.Span);
        var start = new NodeStart(_identity.NodeId, _identity.Incarnation);
        var apply = new ApplyStage(
            machine, _outstanding, state, machine.Durable.Index, start, index => _mailbox.Post(EventKind.Applied, index));
        _apply = apply;
        var before = machine.Durable;
        EngineStart.Replay(log, before, log.Commit, apply, cancellationToken);
        var hasCluster = state.Membership.Voters.Count > 0 || EngineStart.HasConfiguration(log, apply.AppliedIndex);
        if (hasCluster && _identity.Incarnation == 1)
        {
            throw IdentityMissing();
        }

        if (!hasCluster)
        {
            BeginJoin(_identity, isEmpty: log.Last.Index == 0 && before.Index == 0);
        }

        if (!hasCluster && _options.Join is null && _identity is { IsJoining: false, ClusterId: 0 })
        {
            // What an older program left in the log was decided by this node alone: all of it is committed.
            EngineStart.Replay(log, EngineStart.At(log, apply.AppliedIndex), ulong.MaxValue, apply, cancellationToken);
            var last = log.Last;
            EngineStart.Bootstrap(log, _identity.NodeId, _options.Address);
            EngineStart.Replay(log, last, ulong.MaxValue, apply, cancellationToken);
        }

        if (state.Membership.Voters.Count > 0 && _identity.ClusterId == 0)
        {
            // Without a cluster yet and in a log's configuration: one that begins a cluster, and is named there. Another one
            // was made when the file was missing, by a start that was refused above.
            if (!state.Membership.Contains(start.NodeId))
            {
                throw IdentityMissing();
            }

            _identity.SetCluster(NodeIdentity.RandomId());
        }

        if (state.Membership is { IsJoint: false, Voters: [var only] } && only == start.NodeId
            && !EngineStart.HasConfiguration(log, apply.AppliedIndex))
        {
            // The only voter there is or is to be: what is on its disk is on the disks of a majority.
            EngineStart.Replay(log, EngineStart.At(log, apply.AppliedIndex), ulong.MaxValue, apply, cancellationToken);
        }

        Build(machine, log, apply, start, state);
    }

    private static LogCorruptException IdentityMissing() => new(
        $"the log is that of a member of a cluster, but the file '{NodeIdentity.FileName}' that says which one was missing; "
        + "bring it back, or start with an empty directory");

    private void Build(
        IReplicatedStateMachine machine, WriteAheadLog log, ApplyStage apply, NodeStart start, EngineState state)
    {
        var tick = TimeSpan.FromMilliseconds(Math.Clamp(_options.ElectionTimeout.TotalMilliseconds / 50, 5, 50));
        var electionTicks = (int)(_options.ElectionTimeout / tick);
        _core = new RaftCore(
            new CoreOptions
            {
                NodeId = start.NodeId,
                ElectionTicks = electionTicks,
                HeartbeatTicks = Math.Max(1, electionTicks / 10),
                LeaseNanoseconds = (long)(_options.ElectionTimeout.TotalNanoseconds * 0.8),
                UncommittedBytesMax = _options.UncommittedBytesMax,
                MayLoseTail = _options.Durability != Durability.High,
                Seed = NodeIdentity.RandomId(),
            },
            EngineStart.State(log, apply.AppliedIndex, state.Membership));
        _persist = new PersistStage(
            log,
            new PersistOptions
            {
                Durability = _options.Durability,
                SyncInterval = _options.SyncInterval,
                ResumeInterval = _options.ResumeInterval,
            },
            OnPersisted);
        var identity = _identity!;
        _links = _connect(new PeerIdentity(identity.ClusterId, start.NodeId, start.Incarnation, _options.Address));
        _transfers = new SnapshotTransfers(
            _options.DataDirectory, machine, _mailbox, apply, _links, text => Noted?.Invoke(false, text), Fail,
            TimeProvider.System);
        // Before the driver, which names the peers: what comes from them waits in the mailbox.
        _links.Start(new Sink(this));
        var driver = new RaftDriver(
            new DriverOptions
            {
                Tick = tick,
                ElectionTimeout = _options.ElectionTimeout,
                LeaderWait = _options.LeaderWait,
                Follower = _options.Follower,
                LogBytesMax = _options.LogBytesMax,
                ApplyInline = _options.ApplyInline,
                EntryBytesSoft = _options.EntryBytesSoft,
            },
            new DriverParts
            {
                Start = start,
                Core = _core,
                Log = log,
                Machine = machine,
                Mailbox = _mailbox,
                Outstanding = _outstanding,
                Persist = _persist,
                Apply = apply,
                Links = _links,
                Fetcher = new LogFetcher(log, _mailbox, Fail),
                Snapshots = _transfers,
                LeaderChanged = OnLeader,
            },
            Now());
        _transfers.Attach(driver, _core);
        var persist = _persist;
        _turn = () => driver.Turn(Now());
        _turnHere = () => driver.Turn(Now(), mayWrite: false);
        _wantsBatches = () => driver.WantsBatches;
        // The end is told by an event, which a turn may have taken already.
        _waitMilliseconds = () => _stopping ? 0 : driver.WaitMilliseconds(Now());
        _hasWrites = () => persist.HasWork;
        // Last: who sees it may use the rest.
        Volatile.Write(ref _driver, driver);
    }

    private void OnLeader(ulong term, ulong leader)
    {
        if (LeaderChanged is { } changed)
        {
            var address = AddressOf(leader);
            var change = new LeaderChange(term, address, IsSelf: leader == _core!.NodeId);
            _ = ThreadPool.UnsafeQueueUserWorkItem(_ => changed(change), null);
        }
    }

    private string? AddressOf(ulong node) =>
        _driver is { } driver && driver.Membership.Addresses.TryGetValue(node, out var address) ? address : null;

    private static long Now() => (long)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));
}

/// <summary>Where an engine keeps its files, when not in directories.</summary>
internal sealed record EngineDisks(IDisk Log, IDisk Data, WalOptions Wal, Func<ulong> NewNodeId);
