using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>Starting, stopping, restarting and refusing to start.</summary>
public sealed class LifecycleTests : IDisposable
{
    private readonly TempDirectory _directory = new("lifecycle");

    private string Data => _directory.Sub("data");

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("SHUTDOWN")]
    [InlineData("SHUTDOWN NOSAVE")]
    [InlineData("shutdown save")]
    [InlineData("signal 15")]
    [InlineData("signal 2")]
    public void CleanStopExitsZeroAndEverythingIsThereAgain(string how)
    {
        using var node = NodeProcess.Start(Data);
        using var client = node.Connect();
        for (var i = 0; i < 500; i++)
        {
            client.Send("SET", $"k{i:d3}", $"v{i}");
        }

        client.Send("DEL", "k000");
        client.Flush();
        for (var i = 0; i < 501; i++)
        {
            Assert.False(client.Read().IsError);
        }

        var words = how.Split(' ');
        if (words[0] == "signal")
        {
            node.Process.Signal(int.Parse(words[1]));
        }
        else
        {
            client.Send([.. words.Select(static word => (RespArgument)word)]);
            client.Flush();
            Assert.DoesNotContain("-ERR", System.Text.Encoding.ASCII.GetString(client.ReadToEnd()), StringComparison.Ordinal);
        }

        Assert.Equal(ExitCodes.Success, node.WaitForExit());
        using var again = node.Restart();
        using var reader = again.Connect();
        Assert.Equal(":499", reader.Text("DBSIZE"));
        Assert.Equal("[\"k001\", \"v1\"]", reader.Text("KEYS", "*", "LIMIT", "1", "WITHVALUES"));
    }

    [Fact]
    public void SigtermUnderLoadExitsZeroAndLosesNoAnsweredWrite()
    {
        Seeds.Run(nameof(SigtermUnderLoadExitsZeroAndLosesNoAnsweredWrite), random =>
        {
            var load = new WriteLoad(8, random);
            using var node = NodeProcess.Start(Data);
            load.Start(node.Port);
            WaitForAnswers(load, 2000);
            Assert.Equal(ExitCodes.Success, node.Terminate());
            load.Join();
            using var again = node.Restart();
            Assert.True(load.Verify(again.Port) > 0);
        });
    }

    [Fact]
    public void RestartKeepsIndexesGrowingAndKeysInOrder()
    {
        long before;
        using (var node = NodeProcess.Start(Data))
        {
            using var client = node.Connect();
            Assert.Equal("+OK", client.Text("MSET", "b", "2", "a", "1", "c", "3"));
            before = long.Parse(client.Call("RAFTSTATS").Field("applied_index")!.Text);
            Assert.Equal(ExitCodes.Success, node.Terminate());
        }

        using var again = NodeProcess.Start(Data);
        using var reader = again.Connect();
        Assert.Equal("[\"a\", \"b\", \"c\"]", reader.Text("KEYS", "*"));
        Assert.True(long.Parse(reader.Call("RAFTSTATS").Field("applied_index")!.Text) >= before);
        Assert.Equal("\"Leader\"", reader.Text("RAFTSTATE"));
    }

    [Fact]
    public void SecondProcessOnTheSameDirectoryIsRefusedAndTheFirstGoesOn()
    {
        using var first = NodeProcess.Start(Data);
        using var client = first.Connect();
        Assert.Equal("+OK", client.Text("SET", "a", "1"));
        using var second = NodeProcess.Spawn(first.Options, Ports.Free());
        Assert.Equal(ExitCodes.InUse, second.WaitForExit());
        Assert.Contains(Data, second.ErrorText, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", second.ErrorText, StringComparison.Ordinal);
        Assert.Equal("\"1\"", client.Text("GET", "a"));
        Assert.Equal("+OK", client.Text("SET", "a", "2"));
    }

    [Fact]
    public void PortInUseIsSaidAndNothingIsBegun()
    {
        using var first = NodeProcess.Start(Data);
        var other = first.Options with { DataDirectory = _directory.Sub("other") };
        using (var second = NodeProcess.Spawn(other, first.Port))
        {
            Assert.Equal(ExitCodes.InUse, second.WaitForExit());
            Assert.Contains("in use", second.ErrorText, StringComparison.OrdinalIgnoreCase);
            Assert.Contains($"{first.Port}", second.ErrorText, StringComparison.Ordinal);
            // A node of a cluster of its own, with an identity, would not join another one later.
            Assert.False(Directory.Exists(other.DataDirectory));
        }

        using var third = NodeProcess.Start(other);
        using var client = third.Connect();
        Assert.Equal("+PONG", client.Text("PING"));
    }

    [Theory]
    [InlineData("--nosuch", "--nosuch")]
    [InlineData("--durability hgh", "durability")]
    [InlineData("--durability", "durability")]
    [InlineData("--consistency maybe", "consistency")]
    [InlineData("--addr nowhere", "addr")]
    [InlineData("--addr 127.0.0.1:99999", "99999")]
    [InlineData("--max-value 513mb", "max-value")]
    [InlineData("--max-value lots", "max-value")]
    [InlineData("--max-clients -1", "max-clients")]
    [InlineData("--join :4920", "--join")]
    [InlineData("stray", "stray")]
    [InlineData("check", "DIR")]
    public void WrongCommandLineExits64AndNamesTheFault(string arguments, string named)
    {
        var result = Tool.Run(Repository.NodeBinary, arguments.Split(' '));
        Assert.Equal(ExitCodes.Usage, result.ExitCode);
        Assert.Contains(named, result.Errors, StringComparison.OrdinalIgnoreCase);
        Assert.Empty(result.Output);
    }

    [Theory]
    [InlineData("KVNODE_DURABILITY", "hgh")]
    [InlineData("KVNODE_MAX_VALUE", "x")]
    public void WrongEnvironmentExits64AndNamesTheVariable(string variable, string value)
    {
        using var node = NodeProcess.Spawn(
            new NodeOptions
            {
                DataDirectory = Data,
                Environment = new Dictionary<string, string>(StringComparer.Ordinal) { [variable] = value },
            },
            Ports.Free());
        Assert.Equal(ExitCodes.Usage, node.WaitForExit());
        Assert.Contains(variable, node.ErrorText, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Data));
    }

    [Fact]
    public void EnvironmentVariablesAreFlags()
    {
        using var node = NodeProcess.Start(new NodeOptions
        {
            DataDirectory = Data,
            Environment = new Dictionary<string, string>(StringComparer.Ordinal)
            {
                ["KVNODE_MAX_VALUE"] = "2kb",
                ["KVNODE_LOG_DIR"] = _directory.Sub("log"),
            },
        });
        using var client = node.Connect();
        Assert.StartsWith("-ERR", client.Text("SET", "a", new byte[3000]), StringComparison.Ordinal);
        Assert.NotEmpty(Directory.EnumerateFileSystemEntries(_directory.Sub("log")));
    }

    [Theory]
    [InlineData("--help", "--durability")]
    [InlineData("-h", "--parse-snapshot")]
    [InlineData("--version", "kvnode")]
    public void HelpAndVersionExitZero(string argument, string expected)
    {
        var result = Tool.Run(Repository.NodeBinary, [argument]);
        Assert.Equal(ExitCodes.Success, result.ExitCode);
        Assert.Contains(expected, result.Text, StringComparison.Ordinal);
        Assert.Empty(result.Errors);
    }

    [Fact]
    public void OneDashFlagsOfTheOriginalWork()
    {
        var port = Ports.Free();
        using var process = new ChildProcess(new ChildStart
        {
            Program = Repository.NodeBinary,
            Arguments = [$"-addr=127.0.0.1:{port}", "-data", Data, "-durability=medium"],
        });
        WaitForPort(process, port);
        using var client = new RespClient(port);
        Assert.Equal("+OK", client.Text("SET", "a", "1"));
        process.Signal(Posix.SignalTerminate);
        Assert.Equal(ExitCodes.Success, process.WaitForExit(TimeSpan.FromSeconds(30)));
    }

    [Fact]
    public void StartUpSaysVersionAddressDirectoryIndexAndDurability()
    {
        using (var node = NodeProcess.Start(Data))
        {
            using var client = node.Connect();
            _ = client.Call("SET", "a", "1");
            Assert.Equal(ExitCodes.Success, node.Terminate());
        }

        using var again = NodeProcess.Start(Data, "--durability", "medium");
        var said = again.ErrorText + again.Process.OutputText;
        string[] parts = ["0.1.0", $"127.0.0.1:{again.Port}", Data, "medium", "1 keys up to entry"];
        Assert.All(parts, part => Assert.Contains(part, said, StringComparison.OrdinalIgnoreCase));
        Assert.True(said.Split('\n').Length < 20, said);
    }

    [Fact]
    public void CommandsAreNeverLogged()
    {
        using var node = NodeProcess.Start(Data);
        using var client = node.Connect();
        var before = node.ErrorText.Length + node.Process.OutputText.Length;
        for (var i = 0; i < 2000; i++)
        {
            client.Send("SET", "hushkey", "hushvalue");
            client.Send("NOSUCHCOMMAND", "hushkey");
        }

        client.Flush();
        for (var i = 0; i < 4000; i++)
        {
            _ = client.Read();
        }

        Assert.Equal(ExitCodes.Success, node.Terminate());
        var said = node.ErrorText + node.Process.OutputText;
        Assert.DoesNotContain("hush", said, StringComparison.Ordinal);
        Assert.True(said.Length - before < 4000, said);
    }

    [Fact]
    public void CheckOfAStoppedNodeIsCleanAndOfARunningOneIsRefused()
    {
        using var node = NodeProcess.Start(Data);
        using (var client = node.Connect())
        {
            Assert.Equal("+OK", client.Text("MSET", "a", "1", "b", "2"));
            Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
        }

        var running = Tool.Run(Repository.NodeBinary, ["check", Data]);
        Assert.Equal(ExitCodes.InUse, running.ExitCode);
        node.Kill9();
        var stopped = Tool.Run(Repository.NodeBinary, ["check", Data]);
        Assert.True(stopped.ExitCode == ExitCodes.Success, stopped.Errors + stopped.Text);
        Assert.NotEmpty(stopped.Text);
        Assert.Equal(ExitCodes.NoInput, Tool.Run(Repository.NodeBinary, ["check", _directory.Sub("nowhere")]).ExitCode);
    }

    [Theory]
    [InlineData("high")]
    [InlineData("medium")]
    [InlineData("low")]
    public void EveryDurabilitySurvivesKill9(string durability)
    {
        using var node = NodeProcess.Start(Data, "--durability", durability);
        using var client = node.Connect();
        for (var i = 0; i < 200; i++)
        {
            Assert.Equal("+OK", client.Text("SET", $"k{i}", "v"));
        }

        node.Kill9();
        using var again = node.Restart();
        using var reader = again.Connect();
        Assert.Equal(":200", reader.Text("DBSIZE"));
    }

    private static void WaitForAnswers(WriteLoad load, int answers)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (load.Answered < answers)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), "the load makes no progress");
            Thread.Sleep(5);
        }
    }

    private static void WaitForPort(ChildProcess process, int port)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (true)
        {
            try
            {
                using var client = new RespClient(port);
                Assert.Equal("+PONG", client.Text("PING"));
                return;
            }
            catch (System.Net.Sockets.SocketException)
            {
                Assert.False(process.HasExited, process.ErrorText);
                Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), "the node does not listen");
                Thread.Sleep(20);
            }
        }
    }
}
