using System.Diagnostics;

namespace KvNode.Testing;

/// <summary>A real redis-server on loopback, keeping nothing on disk: the reference replies are compared with.</summary>
public sealed class RedisProcess : IDisposable
{
    private readonly TempDirectory _directory = new("redis");
    private readonly ChildProcess _process;

    private RedisProcess(int port)
    {
        Port = port;
        _process = new ChildProcess(new ChildStart
        {
            Program = "redis-server",
            Arguments =
            [
                "--port", $"{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", _directory.Path, "--daemonize", "no",
            ],
        });
    }

    public int Port { get; }

    /// <summary>Null where redis-server is not installed.</summary>
    public static RedisProcess? TryStart()
    {
        if (Tool.Find("redis-server") is null)
        {
            return null;
        }

        for (var attempt = 0; ; attempt++)
        {
            var redis = new RedisProcess(Ports.Free());
            if (redis.WaitUntilReady() || attempt == 5)
            {
                return redis;
            }

            redis.Dispose();
        }
    }

    public RespClient Connect(TimeSpan? timeout = null) => new(Port, timeout);

    public void Dispose()
    {
        _process.Dispose();
        _directory.Dispose();
    }

    private bool WaitUntilReady()
    {
        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < TimeSpan.FromSeconds(20) && !_process.HasExited)
        {
            try
            {
                using var client = Connect();
                return client.Text("PING") == "+PONG";
            }
            catch (System.Net.Sockets.SocketException)
            {
                Thread.Sleep(20);
            }
        }

        return false;
    }
}
