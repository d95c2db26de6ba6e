using System.Diagnostics;
using System.Net;

namespace KvNode.Testing;

/// <summary>How to start a node.</summary>
public sealed record NodeOptions
{
    public required string DataDirectory { get; init; }

    /// <summary>Where it listens. Another than loopback only in a network of the test's own.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>Further arguments, after <c>--addr</c> and <c>--data</c>.</summary>
    public string[] Arguments { get; init; } = [];

    public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>(StringComparer.Ordinal);

    /// <summary>A command the node is run by, such as <c>sh -c 'ulimit -n 64; exec "$@"' sh</c>; it must exec.</summary>
    public string[] Launcher { get; init; } = [];

    /// <summary>How long it may take until it answers.</summary>
    public TimeSpan StartTimeout { get; init; } = TimeSpan.FromSeconds(60);
}

/// <summary>A KvNode running as its own process on loopback. Killed on dispose.</summary>
public sealed class NodeProcess : IDisposable
{
    private static readonly TimeSpan StopTimeout = TimeSpan.FromSeconds(30);

    private NodeProcess(ChildProcess process, NodeOptions options, int port)
    {
        Process = process;
        Options = options;
        Port = port;
    }

    public ChildProcess Process { get; }

    public NodeOptions Options { get; }

    public int Port { get; }

    public string ErrorText => Process.ErrorText;

    /// <summary>Starts a node and waits until it answers, and is the one that answers.</summary>
    /// <exception cref="NodeStartException">It ended instead.</exception>
    public static NodeProcess Start(NodeOptions options)
    {
        for (var attempt = 0; ; attempt++)
        {
            var node = Spawn(options, Ports.Free());
            try
            {
                node.WaitUntilReady(options.StartTimeout);
                return node;
            }
            catch (NodeStartException failure) when (attempt < 5 && failure.Message.Contains("in use", StringComparison.OrdinalIgnoreCase))
            {
                node.Dispose();
            }
            catch
            {
                node.Dispose();
                throw;
            }
        }
    }

    public static NodeProcess Start(string dataDirectory, params string[] arguments) =>
        Start(new NodeOptions { DataDirectory = dataDirectory, Arguments = arguments });

    /// <summary>Starts a node on this port and does not wait for it.</summary>
    public static NodeProcess Spawn(NodeOptions options, int port)
    {
        string[] command =
        [
            .. options.Launcher, Repository.NodeBinary, "--addr", $"{options.Address}:{port}", "--data", options.DataDirectory,
            .. options.Arguments,
        ];
        var start = new ChildStart { Program = command[0], Arguments = command[1..], Environment = options.Environment };
        return new NodeProcess(new ChildProcess(start), options, port);
    }

    /// <summary>The same node again, after it ended.</summary>
    public NodeProcess Restart() => Start(Options);

    public RespClient Connect(TimeSpan? timeout = null) => new(new IPEndPoint(Options.Address, Port), timeout);

    /// <summary>kill -9 and wait until it is gone.</summary>
    public void Kill9() => Process.Kill9();

    /// <summary>
    /// SIGSTOP, wait until every thread stands still, then kill -9: no system call is cut in the middle, as a kill
    /// alone would cut a long write.
    /// </summary>
    public void FreezeAndKill9()
    {
        Process.Signal(Posix.SignalStop);
        var clock = Stopwatch.StartNew();
        while (!Process.HasExited && !Process.IsStopped)
        {
            if (clock.Elapsed > StopTimeout)
            {
                throw new TimeoutException($"process {Process.Pid} does not stop");
            }

            Thread.Sleep(2);
        }

        Process.Kill9();
    }

    /// <summary>SIGTERM, and the exit code.</summary>
    public int Terminate()
    {
        Process.Signal(Posix.SignalTerminate);
        return Process.WaitForExit(StopTimeout);
    }

    public int WaitForExit() => Process.WaitForExit(StopTimeout);

    public void WaitUntilReady(TimeSpan timeout)
    {
        var clock = Stopwatch.StartNew();
        while (!Answers())
        {
            if (Process.HasExited)
            {
                var code = Process.WaitForExit(StopTimeout);
                throw new NodeStartException(code, $"the node ended with exit code {code}:\n{Process.ErrorText}{Process.OutputText}");
            }

            if (clock.Elapsed > timeout)
            {
                throw new TimeoutException($"the node does not answer after {timeout.TotalSeconds} s:\n{Process.ErrorText}");
            }

            Thread.Sleep(20);
        }
    }

    public void Dispose() => Process.Dispose();

    private bool Answers()
    {
        try
        {
            using var client = Connect(TimeSpan.FromSeconds(5));
            var process = client.Call("INFO", "server").Text.Split("\r\n")
                .Single(static line => line.StartsWith("process_id:", StringComparison.Ordinal));
            return process == $"process_id:{Process.Pid}" ? true : throw new NodeStartException(
                0, $"port {Port} is in use: another node, {process}, answers there");
        }
        catch (Exception failure) when (failure is IOException or TimeoutException or System.Net.Sockets.SocketException)
        {
            return false;
        }
    }
}

/// <summary>The node ended instead of serving.</summary>
public sealed class NodeStartException(int exitCode, string message) : Exception(message)
{
    public int ExitCode { get; } = exitCode;
}
