using System.Net;
using KvNode.Testing;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>What <c>INFO raft</c> says of a node.</summary>
internal sealed record RaftInfo(IReadOnlyDictionary<string, string> Fields)
{
    /// <summary>16 hexadecimal digits, as commands take and log lines show it.</summary>
    public string NodeId => Text("raft_node_id");

    public string ClusterId => Text("raft_cluster_id");

    public string Role => Text("raft_role");

    public bool IsLeader => Role == "leader";

    /// <summary>Address the leader advertises; empty when none is known.</summary>
    public string Leader => Text("raft_leader");

    public ulong Term => Number("raft_term");

    public ulong Commit => Number("raft_commit_index");

    public ulong Applied => Number("raft_applied_index");

    public ulong FirstLog => Number("raft_first_log_index");

    public int Voters => Fields.Count(static pair =>
        pair.Key.StartsWith("raft_member", StringComparison.Ordinal) && pair.Value.Contains("voter=1", StringComparison.Ordinal));

    public int Members => (int)Number("raft_members");

    public static RaftInfo Parse(string text)
    {
        var fields = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var line in text.Split("\r\n"))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0)
            {
                fields[line[..colon]] = line[(colon + 1)..];
            }
        }

        return new RaftInfo(fields);
    }

    private string Text(string name) =>
        Fields.TryGetValue(name, out var value) ? value : throw new InvalidDataException($"INFO raft has no {name}");

    private ulong Number(string name) => ulong.Parse(Text(name));
}

/// <summary>One member of a cluster: a directory, a proxy in front, and the process of the moment.</summary>
internal sealed class ClusterNode : IDisposable
{
    private readonly TempDirectory _directory;
    private readonly ClusterOptions _options;
    private NodeProcess? _process;
    private int _lives;

    public ClusterNode(int index, ClusterOptions options, LinkRules links, Func<int, int, int?> callerOf)
    {
        Index = index;
        Arguments = options.Arguments;
        _options = options;
        _directory = new TempDirectory($"cluster-{index}");
        Directory.CreateDirectory(Data);
        Proxy = new FaultProxy(index, links, callerOf);
        Faults = new FaultControl(_directory, Data);
    }

    public int Index { get; }

    public FaultProxy Proxy { get; }

    /// <summary>Its further flags, from its next start on.</summary>
    public string[] Arguments { get; set; }

    /// <summary>Its disk and its wall clock.</summary>
    public FaultControl Faults { get; }

    public string Data => _directory.Sub("data");

    /// <summary>What others and clients are told.</summary>
    public string Advertised => _options.Network is { } network
        ? $"{network.AddressOf(Index)}:{NetworkNamespaces.Port}"
        : $"127.0.0.1:{Proxy.Port}";

    /// <summary>Where its clients connect, past the proxy.</summary>
    public int Port => Process.Port;

    public NodeProcess Process => _process ?? throw new InvalidOperationException($"node {Index} was never started");

    public int? Pid => _process?.Process.Pid;

    public bool IsRunning => _process is { } process && !process.Process.HasExited;

    /// <summary>Stopped by SIGSTOP.</summary>
    public bool IsPaused { get; private set; }

    public bool IsServing => IsRunning && !IsPaused;

    /// <summary>What it wrote to standard error in all its lives.</summary>
    public string Log { get; private set; } = "";

    /// <summary>Starts it and waits until it answers at all; it need not know a leader.</summary>
    public void Start(string? join = null)
    {
        for (var attempt = 0; ; attempt++)
        {
            Spawn(join);
            try
            {
                Process.WaitUntilReady(TimeSpan.FromSeconds(60));
                return;
            }
            catch (NodeStartException failure) when (attempt < 5 && failure.Message.Contains("in use", StringComparison.OrdinalIgnoreCase))
            {
                // Somebody took the port in between.
            }
        }
    }

    /// <summary>Starts it and does not wait.</summary>
    public void Spawn(string? join = null)
    {
        KeepLog();
        _process?.Dispose();
        _lives++;
        string[] flags = join is null ? [] : [ClusterOptions.JoinFlag, join];
        _process = NodeProcess.Spawn(
            new NodeOptions
            {
                DataDirectory = Data,
                Arguments = [ClusterOptions.AdvertiseFlag, Advertised, .. flags, .. Arguments],
                Environment = Environment(),
                Address = _options.Network?.AddressOf(Index) ?? IPAddress.Loopback,
                Launcher = _options.Network?.LauncherOf(Index) ?? [],
            },
            _options.Network is null ? Ports.Free() : NetworkNamespaces.Port);
        IsPaused = false;
        Proxy.Target = _process.Port;
    }

    public void Kill9() => Process.Kill9();

    public void Pause()
    {
        Process.Process.Signal(Posix.SignalStop);
        IsPaused = true;
    }

    public void Resume()
    {
        Process.Process.Signal(Posix.SignalContinue);
        IsPaused = false;
    }

    /// <summary>SIGTERM; the exit code.</summary>
    public int Terminate() => Process.Terminate();

    /// <summary>Waits until it ends by itself; the exit code.</summary>
    public int WaitForExit() => Process.WaitForExit();

    /// <summary>Ends it cleanly and starts it again with these flags added to those it had.</summary>
    public void RestartWith(params string[] flags)
    {
        var code = Terminate();
        if (code != ExitCodes.Success)
        {
            throw new ClusterFailureException($"{this} ends with exit code {code}:\n{AllLog()}");
        }

        Arguments = [.. Arguments, .. flags];
        Start();
    }

    /// <summary>Forgets everything it kept: a new disk. It must not run.</summary>
    public void Wipe()
    {
        Directory.Delete(Data, recursive: true);
        Directory.CreateDirectory(Data);
    }

    /// <summary>What it says of itself; null when it does not answer.</summary>
    public RaftInfo? TryInfo()
    {
        if (!IsServing)
        {
            return null;
        }

        try
        {
            using var client = Process.Connect(TimeSpan.FromSeconds(5));
            return RaftInfo.Parse(client.Call("INFO", "raft").Text);
        }
        catch (Exception failure) when (failure is IOException or TimeoutException or System.Net.Sockets.SocketException)
        {
            return null;
        }
    }

    public override string ToString() =>
        $"node {Index} ({Advertised}, port {_process?.Port}, {(IsPaused ? "paused" : IsRunning ? "running" : "down")})";

    public void Dispose()
    {
        _process?.Dispose();
        Proxy.Dispose();
        _directory.Dispose();
    }

    /// <summary>The log of the life that has ended or is about to.</summary>
    public string AllLog() => Log + (_process is null ? "" : $"--- node {Index}, life {_lives}\n{_process.ErrorText}");

    private Dictionary<string, string> Environment()
    {
        var environment = new Dictionary<string, string>(_options.Environment, StringComparer.Ordinal);
        foreach (var (name, value) in _options.WithFaults ? Faults.Environment : environment)
        {
            environment[name] = value;
        }

        return environment;
    }

    private void KeepLog() => Log = AllLog();
}
