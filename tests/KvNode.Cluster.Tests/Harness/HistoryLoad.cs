using System.Diagnostics;
using System.Net.Sockets;
using KvNode.Testing;
using KvNode.Testing.Linearizability;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>How the clients of a <see cref="HistoryLoad"/> behave.</summary>
internal sealed record LoadOptions
{
    public int Clients { get; init; } = 10;

    /// <summary>Every so many operations of all clients the keys are new ones.</summary>
    public int OperationsPerEpoch { get; init; } = 3000;

    public int Groups { get; init; } = 25;

    public int KeysPerGroup { get; init; } = 4;

    /// <summary>A client waits so long between its turns, at most.</summary>
    public int PauseMillisecondsMax { get; init; } = 16;

    /// <summary>How long a client waits for a reply before it gives the connection up.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(8);
}

/// <summary>
/// Clients of all nodes that do random operations and write down what they asked and got. Half of them stay with one
/// node, half roam; every third has several operations in flight.
/// </summary>
internal sealed class HistoryLoad
{
    private static readonly long Origin = Stopwatch.GetTimestamp();

    private readonly Cluster _cluster;
    private readonly LoadOptions _options;
    private readonly List<Operation>[] _histories;
    private readonly Thread[] _threads;
    private readonly string _name = $"{Environment.ProcessId:x}{Interlocked.Increment(ref _loads)}";
    private static int _loads;
    private volatile bool _stop;
    private volatile string? _surprise;
    private long _lastWriteAt;
    private long _operations;
    private long _acknowledged;
    private int _unknown;
    private int _refused;

    public HistoryLoad(Cluster cluster, Random random, LoadOptions? options = null)
    {
        _cluster = cluster;
        _options = options ?? new LoadOptions();
        _histories = [.. Enumerable.Range(0, _options.Clients).Select(static _ => new List<Operation>())];
        _threads =
        [
            .. _histories.Select((history, client) =>
            {
                var seed = random.Next();
                return new Thread(() => Run(client, history, new Random(seed))) { IsBackground = true };
            }),
        ];
    }

    /// <summary>Operations executed and answered so far.</summary>
    public long Acknowledged => Interlocked.Read(ref _acknowledged);

    public int Unknown => Volatile.Read(ref _unknown);

    public int Refused => Volatile.Read(ref _refused);

    /// <summary>A reply no client should ever get.</summary>
    public string? Surprise => _surprise;

    /// <summary>Microseconds on the histories' clock.</summary>
    public static long Now => (Stopwatch.GetTimestamp() - Origin) / (Stopwatch.Frequency / 1_000_000);

    /// <summary>When the newest acknowledged write was sent; one sent after a fault proves that the cluster goes on.</summary>
    public long LastWriteSentAt => Interlocked.Read(ref _lastWriteAt);

    public HistoryLoad Start()
    {
        Array.ForEach(_threads, static thread => thread.Start());
        return this;
    }

    /// <summary>Waits until so many more operations are answered.</summary>
    public void WaitForProgress(int operations = 200)
    {
        var target = Acknowledged + operations;
        Wait(() => Acknowledged >= target, $"{operations} more operations");
    }

    /// <summary>Waits until a write that was sent after this moment is acknowledged, by whichever node.</summary>
    /// <returns>Microseconds from that moment to the reply, or a little more.</returns>
    public long WaitForWriteSentAfter(long moment)
    {
        Wait(() => LastWriteSentAt > moment, "a write");
        return Now - moment;
    }

    /// <summary>Ends the clients, and checks every result.</summary>
    public void StopAndCheck()
    {
        _stop = true;
        foreach (var thread in _threads)
        {
            _cluster.Require(thread.Join(TimeSpan.FromSeconds(60)), "a client does not end");
        }

        _cluster.Require(_surprise is null, _surprise ?? "");
        List<Operation> history = [.. _histories.SelectMany(static operations => operations)];
        history.AddRange(ReadEverything());
        var result = LinearizabilityChecker.Check(history);
        Console.WriteLine(
            $"history: {history.Count} operations, {Acknowledged} acknowledged, {Unknown} of unknown outcome, {Refused} refused: " +
            $"{result.Verdict}, {result.Configurations} configurations");
        _cluster.Require(result.Verdict == Verdict.Linearizable, result.Explanation);
    }

    /// <summary>The last word on every key: so an acknowledged write that is lost is noticed though nobody read it.</summary>
    private List<Operation> ReadEverything()
    {
        var reads = new List<Operation>();
        using var client = Cluster.Connect(_cluster.WaitForLeader(), TimeSpan.FromSeconds(30));
        for (var epoch = 0L; epoch <= Interlocked.Read(ref _operations) / _options.OperationsPerEpoch; epoch++)
        {
            for (var group = 0; group < _options.Groups; group++)
            {
                var read = Operation.Range(_options.Clients, Now, Prefix(epoch, group), new RangeOptions(WithValues: true));
                var reply = client.Call(read.Command());
                _cluster.Require(read.TryDone(Now, reply), $"{read} answers {reply}");
                reads.Add(read);
            }
        }

        return reads;
    }

    private void Wait(Func<bool> happened, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!happened())
        {
            _cluster.Require(_surprise is null, _surprise ?? "");
            _cluster.Require(clock.Elapsed < TimeSpan.FromSeconds(60), $"{what} is not acknowledged within a minute");
            Thread.Sleep(2);
        }
    }

    private void Run(int client, List<Operation> history, Random random)
    {
        var roams = client % 2 == 1;
        var depth = client % 3 == 2 ? 6 : 1;
        var home = client;
        while (!_stop && _surprise is null)
        {
            var nodes = _cluster.Nodes;
            var node = nodes[home % nodes.Count];
            try
            {
                using var connection = Cluster.Connect(node, _options.Timeout);
                for (var turn = 0; !_stop && (!roams || turn < 50); turn++)
                {
                    Turn(client, node, connection, history, depth, random);
                    Thread.Sleep(random.Next(_options.PauseMillisecondsMax + 1));
                }
            }
            catch (Exception failure) when (failure is IOException or TimeoutException or SocketException or InvalidOperationException)
            {
                Thread.Sleep(random.Next(20, 60)); // The node is down, paused or cut off: what was in flight has an unknown outcome.
            }

            home += roams ? random.Next(1, nodes.Count + 1) : 0;
        }
    }

    /// <summary>Sends some operations at once and takes their replies.</summary>
    private void Turn(int client, ClusterNode node, RespClient connection, List<Operation> history, int depth, Random random)
    {
        var sent = new List<Operation>(depth);
        for (var i = random.Next(1, depth + 1); i > 0; i--)
        {
            var operation = Next(client, $"node {node.Index}", random);
            sent.Add(operation);
            connection.Send(operation.Command());
        }

        // In the history before they are sent: whatever happens now, they may be executed.
        history.AddRange(sent);
        var answered = 0;
        try
        {
            connection.Flush();
            for (; answered < sent.Count; answered++)
            {
                Take(sent[answered], connection.Read(), history);
            }
        }
        finally
        {
            _ = Interlocked.Add(ref _unknown, sent.Count - answered);
        }
    }

    private void Take(Operation operation, RespValue reply, List<Operation> history)
    {
        if (!reply.IsError && operation.TryDone(Now, reply))
        {
            _ = Interlocked.Increment(ref _acknowledged);
            if (operation.Values.Length > 0)
            {
                Raise(operation.CalledAt);
            }

            return;
        }

        switch (reply.IsError ? Replies.FateOf(reply) : Fate.Unexpected)
        {
            case Fate.NotExecuted:
                history.RemoveAt(history.LastIndexOf(operation));
                _ = Interlocked.Increment(ref _refused);
                break;
            case Fate.Unknown:
                _ = Interlocked.Increment(ref _unknown);
                break;
            default:
                _surprise = $"{operation} at {operation.Where} answers {reply}";
                break;
        }
    }

    private void Raise(long sentAt)
    {
        var before = Interlocked.Read(ref _lastWriteAt);
        while (sentAt > before)
        {
            var seen = Interlocked.CompareExchange(ref _lastWriteAt, sentAt, before);
            if (seen == before)
            {
                return;
            }

            before = seen;
        }
    }

    private Operation Next(int client, string where, Random random)
    {
        var number = Interlocked.Increment(ref _operations);
        var prefix = Prefix(number / _options.OperationsPerEpoch, random.Next(_options.Groups));
        var keys = Enumerable.Range(0, _options.KeysPerGroup).Select(key => $"{prefix}{key}").ToArray();
        random.Shuffle(keys);
        var some = keys[..random.Next(1, keys.Length + 1)];
        string Value(int i) => $"{client}.{number}.{i}";

        var (kind, named) = random.Next(100) switch
        {
            < 38 => (OperationKind.Set, keys[..1]),
            < 68 => (OperationKind.Get, keys[..1]),
            < 75 => (OperationKind.Delete, some[..Math.Min(2, some.Length)]),
            < 82 => (OperationKind.MultiSet, some),
            < 91 => (OperationKind.MultiGet, some),
            < 93 => (OperationKind.PatternDelete, [prefix]),
            _ => (OperationKind.Range, new[] { prefix }),
        };
        return new Operation
        {
            Client = client,
            Kind = kind,
            Keys = named,
            Values = kind is OperationKind.Set or OperationKind.MultiSet ? [.. named.Select((_, i) => Value(i))] : [],
            Options = kind == OperationKind.Range
                ? new RangeOptions(Limit: random.Next(3) == 0 ? 2 : null, Descending: random.Next(2) == 0, WithValues: random.Next(2) == 0)
                : RangeOptions.All,
            CalledAt = Now,
            Where = where,
        };
    }

    private string Prefix(long epoch, int group) => $"h{_name}:{epoch}:{group:d2}:";
}
