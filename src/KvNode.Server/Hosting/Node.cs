using System.Net;
using KvNode.Raft;
using KvNode.Raft.SingleVoter;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Server.Resp;
using KvNode.Server.Sessions;
using KvNode.Storage;

namespace KvNode.Server.Hosting;

/// <summary>
/// The composition root: opens the store, recovers the log, listens; and takes all down in the opposite order.
/// </summary>
internal sealed class Node : IAsyncDisposable
{
    private readonly ServerStats _stats = new();
    private readonly ClientList _clients;
    private readonly Store _store;
    private readonly IConsensusEngine _engine;
    private readonly KvStateMachine _machine;
    private readonly Executor _executor;
    private readonly DirectoryLock? _logLock;
    private readonly ILogger _log;
    private Listener? _listener;

    private Node(NodeOptions options, ILogger log)
    {
        _log = log;
        var fatal = new FatalExit();
        _clients = new ClientList(_stats, TimeSpan.FromSeconds(options.IdleSeconds));
        Action<ulong> ensureLogDurable = index => _engine!.EnsureLogDurable(index);
        _store = Store.Open(options.DataDirectory, new StoreOptions
        {
            WriteBufferBytes = options.WriteBufferBytes,
            EnsureLogDurable = ensureLogDurable,
            Fatal = fatal.End,
        });
        _logLock = options.LogDirectory == options.DataDirectory ? null : DirectoryLock.Acquire(options.LogDirectory);
        _executor = new Executor(CommandTable.Default, _store, _stats);
        _machine = new KvStateMachine(_store, _executor, options.Listen.ToString());
        _engine = new SingleVoterEngine(
            new SingleVoterOptions
            {
                LogDirectory = options.LogDirectory,
                Address = options.Listen.ToString(),
                Durability = options.Durability,
                SegmentBytes = options.WalSegmentBytes,
            },
            new SnapshotFolder(options),
            fatal.End);
    }

    /// <param name="requestStop">Asks the owner to dispose the node; for SHUTDOWN.</param>
    public static async Task<Node> StartAsync(NodeOptions options, Action requestStop)
    {
        var log = NodeLog.Create(options);
        var node = new Node(options, log);
        try
        {
            await node._engine.StartAsync(node._machine, CancellationToken.None);
            await node.ListenAsync(options, requestStop);
            return node;
        }
        catch
        {
            await node.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_listener is not null)
        {
            await _listener.StopAsync();
        }

        await _engine.DisposeAsync();
        _store.Dispose();
        _logLock?.Dispose();
    }

    private async Task ListenAsync(NodeOptions options, Action requestStop)
    {
        var proposer = new Proposer(_engine, _executor, TimeProvider.System);
        proposer.ObserveLeaderTime(_store.ClockMs);
        var control = new NodeControl(_engine, _store, _clients, _stats, NodeSettings.Of(options), requestStop);
        var services = new SessionServices(
            CommandTable.Default,
            _store,
            _engine,
            proposer,
            _executor,
            control,
            _stats,
            new RespLimits { ValueBytesMax = options.MaxValueBytes, CommandBytesMax = options.QueryBufferBytes },
            new SessionSettings(
                options.OutputBufferBytes,
                options.Consistency,
                options.MaxClients,
                TimeSpan.FromSeconds(options.KeepAliveSeconds)));
        _listener = await Listener.StartAsync(
            await options.Listen.ResolveAsync(), new RespConnection(services, _clients, _log), _clients);
    }
}
