using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>Too few file descriptors, and a log nobody reads.</summary>
public sealed class ResourceTests : IDisposable
{
    private readonly TempDirectory _directory = new("resource");

    private string Data => _directory.Sub("data");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void NodeOutOfFileDescriptorsServesWhomItHasAndOthersWhenThereIsRoom()
    {
        const string Script = "ulimit -n 400; exec \"$@\"";
        using var node = NodeProcess.Start(new NodeOptions { DataDirectory = Data, Launcher = ["/bin/sh", "-c", Script, "sh"] });
        using var witness = node.Connect();
        Assert.Equal("+OK", witness.Text("SET", "a", "1"));
        var crowd = Enumerable.Range(0, 300).Select(_ => TryConnect(node.Port)).OfType<RespClient>().ToArray();
        for (var i = 0; i < 50; i++)
        {
            Assert.Equal("+OK", witness.Text("SET", "a", $"{i}"));
            Assert.Equal($"\"{i}\"", witness.Text("GET", "a"));
        }

        Array.ForEach(crowd, static client => client.Dispose());
        Waiting.Until(() => Answers(node.Port), "no connection is accepted any more", seconds: 30);
        Assert.Equal("+OK", witness.Text("RAFTSNAPSHOT"));
        Assert.Equal(ExitCodes.Success, node.Terminate());
    }

    [Fact]
    public void NodeWith64FileDescriptorsEitherServesOrSaysWhyNot()
    {
        const string Script = "ulimit -n 64; exec \"$@\"";
        var options = new NodeOptions { DataDirectory = Data, Launcher = ["/bin/sh", "-c", Script, "sh"] };
        NodeProcess node;
        try
        {
            node = NodeProcess.Start(options);
        }
        catch (NodeStartException refused)
        {
            Assert.InRange(refused.ExitCode, ExitCodes.Usage, ExitCodes.SyncFailed);
            Assert.DoesNotContain("   at ", refused.Message, StringComparison.Ordinal);
            Assert.Contains("open files", refused.Message, StringComparison.Ordinal);
            return;
        }

        using (node)
        {
            using var witness = node.Connect();
            var crowd = Enumerable.Range(0, 100).Select(_ => TryConnect(node.Port)).OfType<RespClient>().ToArray();
            Assert.Equal("+OK", witness.Text("SET", "a", "1"));
            Assert.Equal("\"1\"", witness.Text("GET", "a"));
            Array.ForEach(crowd, static client => client.Dispose());
            Waiting.Until(() => Answers(node.Port), "no connection is accepted any more", seconds: 30);
            Assert.Equal(ExitCodes.Success, node.Terminate());
        }
    }

    [Fact]
    public void LogThatNobodyReadsHoldsUpNothing()
    {
        var pipe = _directory.Sub("stderr");
        Posix.MakeFifo(pipe);
        const string Script = "exec \"$@\" 2<>\"$STDERR_PIPE\"";
        using var node = NodeProcess.Start(new NodeOptions
        {
            DataDirectory = Data,
            Arguments = ["--log-level", "debug"],
            Launcher = ["/bin/sh", "-c", Script, "sh"],
            Environment = new Dictionary<string, string>(StringComparer.Ordinal) { ["STDERR_PIPE"] = pipe },
        });
        using var full = Posix.FillFifo(pipe);
        using var witness = node.Connect();
        for (var i = 0; i < 300; i++)
        {
            // Connections, protocol errors and snapshots are what a node may log.
            using (var noisy = node.Connect())
            {
                noisy.SendRaw("*1\r\n$x\r\n"u8);
                noisy.Flush();
                _ = noisy.ReadToEnd();
            }

            Assert.Equal("+OK", witness.Text("SET", "a", $"{i}"));
            Assert.Equal($"\"{i}\"", witness.Text("GET", "a"));
        }

        Assert.Equal("+OK", witness.Text("RAFTSNAPSHOT"));
        Assert.Equal(ExitCodes.Success, node.Terminate());
    }

    private static RespClient? TryConnect(int port)
    {
        try
        {
            return new RespClient(port, TimeSpan.FromSeconds(2));
        }
        catch (System.Net.Sockets.SocketException)
        {
            return null;
        }
    }

    private static bool Answers(int port)
    {
        try
        {
            using var client = new RespClient(port, TimeSpan.FromSeconds(2));
            return client.Text("PING") == "+PONG";
        }
        catch (Exception failure) when (failure is IOException or TimeoutException or System.Net.Sockets.SocketException)
        {
            return false;
        }
    }
}
