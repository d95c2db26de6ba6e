using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>The harness itself, on as little cluster as possible.</summary>
public sealed class HarnessTests
{
    [Fact]
    public void OneNodeKilledAgainAndAgainLeavesALinearizableHistory()
    {
        Seeds.Run(nameof(OneNodeKilledAgainAndAgainLeavesALinearizableHistory), random =>
        {
            using var cluster = Harness.Cluster.Start(1);
            var load = new HistoryLoad(cluster, random).Start();
            for (var round = 0; round < 3; round++)
            {
                load.WaitForProgress(150);
                cluster.Nodes[0].Kill9();
                cluster.Nodes[0].Start();
            }

            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Theory]
    [InlineData("UNKNOWN leadership lost while committing log, the write may or may not take effect", nameof(Fate.Unknown))]
    [InlineData("CLUSTERDOWN The cluster is down: no leader was found in time", nameof(Fate.NotExecuted))]
    [InlineData("TRYAGAIN The leader changed before the command was executed", nameof(Fate.NotExecuted))]
    [InlineData("TRY 127.0.0.1:4920", nameof(Fate.NotExecuted))]
    [InlineData("MOVED 0 127.0.0.1:4920", nameof(Fate.NotExecuted))]
    [InlineData("ERR leader not known", nameof(Fate.NotExecuted))]
    [InlineData("MISCONF Errors writing to the AOF file: No space left on device", nameof(Fate.NotExecuted))]
    [InlineData("ERR syntax error", nameof(Fate.Unexpected))]
    public void ErrorSaysWhetherTheCommandMayHaveBeenExecuted(string error, string fate) =>
        Assert.Equal(Enum.Parse<Fate>(fate), Replies.FateOf(error));

    [Fact]
    public void ProxyKnowsItsCallerAndDoesWhatTheLinksSay()
    {
        var links = new LinkRules();
        var self = Environment.ProcessId;
        using var echo = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        echo.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        echo.Listen();
        using var proxy = new FaultProxy(1, links, (port, listener) => SocketOwners.Find(port, listener, [1, self]) == self ? 0 : null)
        {
            Target = ((IPEndPoint)echo.LocalEndPoint!).Port,
        };
        using var near = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
        near.Connect(IPAddress.Loopback, proxy.Port);
        using var far = echo.Accept();
        far.ReceiveTimeout = 20_000;
        Assert.Equal("there", Pass(near, far, "there"));
        Assert.Equal("back", Pass(far, near, "back"));
        Assert.Equal(0, proxy.Strangers);

        // One way only: what is sent waits, the other direction passes.
        links[0, 1].IsCut = true;
        _ = near.Send("waits"u8);
        Assert.Equal("passes", Pass(far, near, "passes"));
        Assert.False(far.Poll(TimeSpan.FromMilliseconds(100), SelectMode.SelectRead));
        links.HealAll();
        Assert.Equal("waits", Receive(far));

        links[0, 1].DelayMilliseconds = 150;
        var clock = Stopwatch.StartNew();
        Assert.Equal("late", Pass(near, far, "late"));
        Assert.True(clock.ElapsedMilliseconds >= 145, $"{clock.ElapsedMilliseconds} ms");

        proxy.Break(0);
        Assert.True(EndsNow(near) && EndsNow(far));
    }

    [Fact]
    public void ConnectionIntoAPartitionHangsUntilItHeals()
    {
        var links = new LinkRules();
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using var proxy = new FaultProxy(1, links, static (_, _) => 0) { Target = ((IPEndPoint)listener.LocalEndPoint!).Port };
        links.Partition([0], [1]);
        using var near = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        near.Connect(IPAddress.Loopback, proxy.Port);
        _ = near.Send("hello"u8);
        Assert.False(listener.Poll(TimeSpan.FromMilliseconds(100), SelectMode.SelectRead));
        links.HealAll();
        using var far = listener.Accept();
        far.ReceiveTimeout = 20_000;
        Assert.Equal("hello", Receive(far));
    }

    private static string Pass(Socket from, Socket to, string text)
    {
        _ = from.Send(System.Text.Encoding.ASCII.GetBytes(text));
        return Receive(to);
    }

    private static string Receive(Socket socket)
    {
        var buffer = new byte[64];
        return System.Text.Encoding.ASCII.GetString(buffer, 0, socket.Receive(buffer));
    }

    private static bool EndsNow(Socket socket)
    {
        try
        {
            return socket.Receive(new byte[1]) == 0;
        }
        catch (SocketException failure) when (failure.SocketErrorCode == SocketError.ConnectionReset)
        {
            return true;
        }
    }
}
