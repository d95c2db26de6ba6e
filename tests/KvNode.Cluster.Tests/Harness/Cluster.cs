using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using KvNode.Testing;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>How the nodes of a cluster are started: the one place that knows the program's flags.</summary>
internal sealed record ClusterOptions
{
    public const string JoinFlag = "--join";
    public const string FollowerFlag = "--follower";
    public const string ConsistencyFlag = "--consistency";
    public const string LeaderWaitFlag = "--leader-wait";
    public const string SecretFlag = "--cluster-secret";
    public const string AdvertiseFlag = "--advertise";

    /// <summary>What peers outside loopback must know of each other.</summary>
    public const string SecretVariable = "KVNODE_CLUSTER_SECRET";

    /// <summary>Small segments, buffers and logs, so that rolling, flushing and compaction are under way at each fault.</summary>
    public static string[] Small { get; } = ["--wal-segment-size", "1mb", "--write-buffer", "1mb", "--log-keep", "4mb"];

    public string[] Arguments { get; init; } = Small;

    public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>(StringComparer.Ordinal);

    /// <summary>Each node in a network namespace of its own; null: on loopback, behind proxies.</summary>
    public NetworkNamespaces? Network { get; init; }

    /// <summary>Under the disk fault injector, which needs a C compiler.</summary>
    public bool WithFaults { get; init; }
}

/// <summary>Several nodes on loopback, each behind a proxy through which the others reach it. Killed on dispose.</summary>
internal sealed class Cluster : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // Replaced as a whole: clients' threads read it while nodes come and go.
    private volatile ClusterNode[] _nodes = [];
    private readonly ClusterOptions _options;
    private int _slots;

    // Each child's output keeps threads of the pool waiting, two a node; the proxies must find others at once.
    static Cluster() => ThreadPool.SetMinThreads(64, 64);

    private Cluster(ClusterOptions options) => _options = options;

    public LinkRules Links { get; } = new();

    public IReadOnlyList<ClusterNode> Nodes => _nodes;

    public int[] Indices => [.. _nodes.Select(static node => node.Index)];

    /// <summary>Starts a cluster of so many voters.</summary>
    public static Cluster Start(int nodes, ClusterOptions? options = null)
    {
        var clock = Stopwatch.StartNew();
        var cluster = new Cluster(options ?? new ClusterOptions());
        try
        {
            cluster.Add().Start();
            while (cluster._nodes.Length < nodes)
            {
                _ = cluster.Join();
            }

            Console.WriteLine($"{nodes} nodes: {clock.ElapsedMilliseconds} ms to start");
            return cluster;
        }
        catch
        {
            cluster.Dispose();
            throw;
        }
    }

    public int[] Others(params int[] indices) => [.. Indices.Except(indices)];

    /// <summary>A place for a new node: a directory and an address. Nothing is started.</summary>
    public ClusterNode Add()
    {
        var node = new ClusterNode(_slots++, _options, Links, CallerOf);
        _nodes = [.. _nodes, node];
        return node;
    }

    /// <summary>A new, empty node joins through any member; waits until it votes.</summary>
    public ClusterNode Join()
    {
        var through = _nodes.First(static node => node.IsServing);
        var voters = WaitForLeader().TryInfo()?.Voters ?? _nodes.Length;
        var node = Add();
        node.Start(through.Advertised);
        WaitForVoters(voters + 1);
        return node;
    }

    /// <summary>Takes a node out of the cluster by the leader's command. The process goes on.</summary>
    public void Remove(ClusterNode node)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            using var client = Connect(WaitForLeader(), TimeSpan.FromSeconds(20));
            RespValue reply;
            try
            {
                reply = client.Call("RAFTREMOVEPEER", node.Advertised);
            }
            catch (EndOfStreamException)
            {
                continue; // The leader that took it may be the one removed.
            }

            if (!reply.IsError || reply.Text.Contains("unknown", StringComparison.OrdinalIgnoreCase))
            {
                return;
            }

            Require(clock.Elapsed < Patience, $"RAFTREMOVEPEER {node.Advertised} answers {reply}");
            Thread.Sleep(50);
        }
    }

    /// <summary>Ends a removed node's process and forgets it.</summary>
    public void Drop(ClusterNode node)
    {
        _nodes = [.. _nodes.Where(other => other != node)];
        node.Dispose();
    }

    /// <summary>A serving node that leads, in no lower term than any other serving node is in; none of the excepted.</summary>
    public ClusterNode WaitForLeader(params ClusterNode[] except) => WaitForLeader(Patience, except);

    public ClusterNode WaitForLeader(TimeSpan patience, params ClusterNode[] except)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            var infos = _nodes.Select(static node => (Node: node, Info: node.TryInfo())).Where(static pair => pair.Info is not null).ToArray();
            foreach (var (node, info) in infos)
            {
                if (info!.IsLeader && !except.Contains(node) &&
                    infos.All(pair => except.Contains(pair.Node) || pair.Info!.Term <= info.Term))
                {
                    return node;
                }
            }

            Require(clock.Elapsed < patience, $"no leader after {patience.TotalSeconds} s");
            Thread.Sleep(20);
        }
    }

    public ClusterNode SomeFollower(ClusterNode leader) => _nodes.First(node => node != leader && node.IsServing);

    public void WaitForVoters(int voters)
    {
        var clock = Stopwatch.StartNew();
        while (WaitForLeader().TryInfo() is not { } info || info.Voters != voters)
        {
            Require(clock.Elapsed < Patience, $"the leader does not come to {voters} voters");
            Thread.Sleep(20);
        }
    }

    /// <summary>Ends every fault and starts every node that is down.</summary>
    public void Heal()
    {
        Links.HealAll();
        foreach (var node in _nodes)
        {
            node.Faults.Set("");
            if (node.IsPaused)
            {
                node.Resume();
            }

            if (!node.IsRunning)
            {
                node.Start();
            }
        }
    }

    /// <summary>
    /// Waits until all nodes have applied the same entries, and compares what each holds by itself: keys and values, by
    /// a read that asks nobody else.
    /// </summary>
    public void RequireEqualStates()
    {
        WaitUntilLevel();
        var digests = _nodes.Select(static node => (node.Index, Digest: DigestOf(node))).ToArray();
        Require(
            digests.Select(static pair => pair.Digest).Distinct(StringComparer.Ordinal).Count() == 1,
            $"the states differ: {string.Join(", ", digests.Select(static pair => $"{pair.Index}: {pair.Digest}"))}");
    }

    /// <summary>Of the keys and values a node has by itself, whoever leads.</summary>
    public static string DigestOf(ClusterNode node)
    {
        using var client = Connect(node, TimeSpan.FromSeconds(60));
        var only = client.Call("READONLY");
        if (only.IsError)
        {
            throw new ClusterFailureException($"READONLY answers {only}");
        }

        client.Send("KEYS", "*", "WITHVALUES");
        client.Flush();
        return Convert.ToHexStringLower(SHA256.HashData(client.ReadRaw()))[..16];
    }

    /// <summary>Waits until the node follows the leader, or is it.</summary>
    public void WaitUntilReachable(ClusterNode node)
    {
        var clock = Stopwatch.StartNew();
        while (node.TryInfo() is not { } info || info.Leader != WaitForLeader().Advertised)
        {
            Require(clock.Elapsed < Patience, $"node {node.Index} finds no leader");
            Thread.Sleep(20);
        }
    }

    public void WaitUntilLevel()
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            var infos = _nodes.Select(static node => node.TryInfo()).ToArray();
            if (infos.All(info => info is not null && info.Applied == infos[0]!.Applied && info.Commit == info.Applied))
            {
                return;
            }

            Require(clock.Elapsed < Patience, "the nodes do not come level");
            Thread.Sleep(50);
        }
    }

    /// <summary>Waits until something is so; where it is not, fails with these words.</summary>
    public void WaitUntil(Func<bool> isSo, string otherwise)
    {
        var clock = Stopwatch.StartNew();
        while (!isSo())
        {
            Require(clock.Elapsed < Patience, otherwise);
            Thread.Sleep(20);
        }
    }

    /// <summary>One command to that node, on a connection of its own, past the proxy.</summary>
    public static RespValue Ask(ClusterNode node, params ReadOnlySpan<RespArgument> words)
    {
        using var client = Connect(node);
        return client.Call(words);
    }

    /// <summary>A client of that node, past the proxy.</summary>
    public static RespClient Connect(ClusterNode node, TimeSpan? timeout = null) => node.Process.Connect(timeout);

    /// <summary>Fails with what every node says and wrote.</summary>
    public void Require(bool condition, string otherwise)
    {
        if (!condition)
        {
            throw new ClusterFailureException($"{otherwise}\n{Describe()}");
        }
    }

    /// <summary>For a failed test: states and the ends of the logs.</summary>
    public string Describe()
    {
        var text = new StringBuilder();
        foreach (var node in _nodes)
        {
            text.Append(node).Append($", {node.Proxy.Strangers} strangers called: ");
            text.AppendJoin(' ', node.TryInfo()?.Fields.Select(static pair => $"{pair.Key}={pair.Value}") ?? ["no answer"]);
            text.Append('\n');
        }

        foreach (var node in _nodes)
        {
            text.Append($"--- {node}, the end of its log:\n").AppendJoin('\n', node.AllLog().Split('\n').TakeLast(25)).Append('\n');
        }

        return text.ToString();
    }

    public void Dispose() => Array.ForEach(_nodes, static node => node.Dispose());

    private int? CallerOf(int port, int listener)
    {
        var nodes = _nodes;
        var pid = SocketOwners.Find(port, listener, nodes.Where(static node => node.Pid is not null).Select(static node => node.Pid!.Value));
        return pid is null ? null : Array.Find(nodes, node => node.Pid == pid)?.Index;
    }
}

/// <summary>The cluster did not do what it should.</summary>
internal sealed class ClusterFailureException(string message) : Exception(message);
