using System.Diagnostics;
using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>Disks that fail, stall or fill up under a running node, by the LD_PRELOAD injector.</summary>
public sealed class FaultTests : IDisposable
{
    private const string Refusal = "MISCONF";

    private readonly TempDirectory _directory = new("fault");

    private string Data => _directory.Sub("data");

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("EIO", "high")]
    [InlineData("ENOSPC", "high")]
    [InlineData("EIO", "medium")]
    public void FailedSyncOfTheLogStopsAnswersAndEndsTheProcessWithItsOwnCode(string error, string durability)
    {
        Seeds.Run($"{nameof(FailedSyncOfTheLogStopsAnswersAndEndsTheProcessWithItsOwnCode)}({error}, {durability})", random =>
        {
            // A node that is its whole cluster writes its log on the raft thread.
            var (load, faults) = FailSync(durability == "high" ? "raft" : "wal", error, durability, random);
            var failedAt = faults.Failures[0].At;
            if (durability == "high")
            {
                AssertNothingAnsweredThatWasSentAfter(load, failedAt);
            }
        });
    }

    /// <summary>What the log answered stays answered: its own syncs still told the truth.</summary>
    [Theory]
    [InlineData("kv-flush")]
    [InlineData("wal-prepare")]
    public void FailedSyncOfAnyOtherFileEndsTheProcessWithTheSameCode(string thread)
    {
        Seeds.Run(
            $"{nameof(FailedSyncOfAnyOtherFileEndsTheProcessWithTheSameCode)}({thread})",
            random => _ = FailSync(thread, "EIO", "high", random));
    }

    [Fact]
    public void NodeWhoseSyncsFailFromTheStartNeverServes()
    {
        var faults = new FaultControl(_directory, Data);
        faults.Set("fsync=EIO");
        using var node = NodeProcess.Spawn(Plain() with { Environment = faults.Environment }, Ports.Free());
        // LMDB makes its own files and reports a failed sync there as any failed write.
        Assert.True(node.WaitForExit() is ExitCodes.SyncFailed or ExitCodes.InputOutput, node.ErrorText);
        using var again = NodeProcess.Start(Plain());
        using var client = again.Connect();
        Assert.Equal(":0", client.Text("DBSIZE"));
    }

    [Fact]
    public void SlowSyncSlowsWritesAndLeavesReadsAlone()
    {
        var faults = new FaultControl(_directory, Data);
        using var node = Start(faults);
        using var reader = node.Connect();
        Assert.Equal("+OK", reader.Text("MSET", "a", "1", "b", "2"));
        faults.Set("fsync=delay:300");
        Thread.Sleep(40); // the injector looks at its control file every 20 ms
        using var writer = node.Connect();
        var clock = Stopwatch.StartNew();
        var writing = new Thread(() =>
        {
            for (var i = 0; i < 6; i++)
            {
                Assert.Equal("+OK", writer.Text("SET", "slow", $"{i}"));
            }
        });
        writing.Start();
        var (reads, worst) = (0, TimeSpan.Zero);
        while (!writing.Join(0))
        {
            var from = clock.Elapsed;
            Assert.Equal("\"1\"", reader.Text("GET", "a"));
            Assert.Equal("[\"a\", \"b\"]", reader.Text("KEYS", "[ab]"));
            worst = clock.Elapsed - from > worst ? clock.Elapsed - from : worst;
            reads++;
        }

        Assert.True(clock.Elapsed > TimeSpan.FromSeconds(1.8), $"six durable writes took {clock.Elapsed.TotalMilliseconds} ms");
        Assert.True(worst < TimeSpan.FromMilliseconds(150), $"a read waited {worst.TotalMilliseconds} ms");
        Assert.True(reads > 200, $"{reads} reads in {clock.Elapsed.TotalMilliseconds} ms");
    }

    [Fact]
    public void FullDiskRefusesWritesServesReadsAndHealsByItself()
    {
        Seeds.Run(nameof(FullDiskRefusesWritesServesReadsAndHealsByItself), random =>
        {
            var faults = new FaultControl(_directory, Data);
            var load = new WriteLoad(6, random) { RefusalPrefix = Refusal };
            using var node = new NodeSlot(Start(faults));
            load.Start(node.Current.Port);
            for (var round = 0; round < 3; round++)
            {
                Waiting.ForAnswers(load, 1000, node.Current);
                var refused = load.Refusals;
                faults.Set("write=ENOSPC allocate=ENOSPC");
                Waiting.Until(
                    () => load.Refusals > refused + 20 || node.Current.Process.HasExited || load.Violation is not null,
                    "a full disk is not noticed");
                Assert.False(node.Current.Process.HasExited, node.Current.ErrorText);
                using var reader = node.Current.Connect();
                Assert.True(reader.Call("DBSIZE").Integer >= 0);
                Assert.False(reader.Call("KEYS", "*").IsError);
                faults.Set("");
            }

            Waiting.ForAnswers(load, 3000, node.Current);
            load.Stop();
            Assert.True(load.Verify(node.Current.Port, restart: false) > 0);
            node.Current.Kill9();
            node.Replace(NodeProcess.Start(Plain()));
            Assert.True(load.Verify(node.Current.Port) > 0);
        });
    }

    [Theory]
    [InlineData("write=EIO")]
    [InlineData("ftruncate=EIO allocate=EIO")]
    [InlineData("write=short")]
    [InlineData("rename=EIO")]
    [InlineData("open=EMFILE")]
    public void OtherDiskErrorsLoseNothingThatWasAnswered(string fault)
    {
        Seeds.Run($"{nameof(OtherDiskErrorsLoseNothingThatWasAnswered)}({fault})", random =>
        {
            var faults = new FaultControl(_directory, Data);
            var load = new WriteLoad(4, random) { RefusalPrefix = Refusal };
            using var node = Start(faults);
            load.Start(node.Port);
            Waiting.ForAnswers(load, 1000, node);
            faults.Set(fault);
            // It may refuse, go on (where the call is not needed) or end: whichever, answered stays answered.
            var answered = load.Answered;
            var clock = Stopwatch.StartNew();
            Waiting.Until(
                () => load.Answered > answered + 20_000 || node.Process.HasExited || clock.Elapsed > TimeSpan.FromSeconds(3),
                "three seconds never pass");
            faults.Set("");
            load.Stop();
            node.Kill9();
            using var again = NodeProcess.Start(Plain());
            Assert.True(load.Verify(again.Port) >= 1000);
        });
    }

    [Fact]
    public void ShortWritesOfTheLogAreCompleted()
    {
        Seeds.Run(nameof(ShortWritesOfTheLogAreCompleted), random =>
        {
            var faults = new FaultControl(_directory, Path.Combine(Data, "wal"));
            var load = new WriteLoad(4, random) { RefusalPrefix = Refusal };
            using var node = Start(faults);
            faults.Set("write=short");
            load.Start(node.Port);
            Waiting.ForAnswers(load, 3000, node);
            load.Stop();
            Assert.True(load.Verify(node.Port, restart: false) >= 3000);
            node.Kill9();
            using var again = NodeProcess.Start(Plain());
            Assert.True(load.Verify(again.Port) >= 3000);
        });
    }

    [Theory]
    [InlineData("clock=+3600")]
    [InlineData("clock=-3600")]
    public void WallClockJumpsDoNotDisturb(string jump)
    {
        Seeds.Run($"{nameof(WallClockJumpsDoNotDisturb)}({jump})", random =>
        {
            var faults = new FaultControl(_directory, Data);
            var load = new WriteLoad(4, random);
            using var node = Start(faults, "--timeout", "30");
            load.Start(node.Port);
            Waiting.ForAnswers(load, 500, node);
            faults.Set(jump);
            Waiting.ForAnswers(load, 3000, node);
            faults.Set("");
            Waiting.ForAnswers(load, 500, node);
            load.Stop();
            Assert.True(load.Verify(node.Port, restart: false) >= 4000);
            node.Kill9();
            using var again = NodeProcess.Start(Plain());
            Assert.True(load.Verify(again.Port) >= 4000);
        });
    }

    /// <summary>Fails one thread's syncs under load until the node ends, then checks that nothing answered is lost.</summary>
    private (WriteLoad Load, FaultControl Faults) FailSync(string thread, string error, string durability, Random random)
    {
        var faults = new FaultControl(_directory, Data, thread);
        var load = new WriteLoad(6, random);
        using var node = Start(faults, "--durability", durability);
        load.Start(node.Port);
        Waiting.ForAnswers(load, 1500, node);
        faults.Set($"fsync={error}");
        Assert.Equal(ExitCodes.SyncFailed, node.WaitForExit());
        load.Join();
        Assert.NotEmpty(faults.Failures);
        Assert.Contains("sync", node.ErrorText, StringComparison.Ordinal);
        Assert.Contains(Data, node.ErrorText, StringComparison.Ordinal);
        using var again = NodeProcess.Start(Plain());
        Assert.True(load.Verify(again.Port) >= 1500);
        return (load, faults);
    }

    private static void AssertNothingAnsweredThatWasSentAfter(WriteLoad load, long failedAt)
    {
        foreach (var history in load.Histories)
        {
            for (var i = 0; i < history.Answered; i++)
            {
                Assert.True(
                    history.SentAt(i) < failedAt,
                    $"{history.Prefix} write {i} was sent {(history.SentAt(i) - failedAt) / 1000} us after the failed sync and answered");
            }
        }
    }

    private NodeProcess Start(FaultControl faults, params string[] arguments)
    {
        // The directory is there before, so that the injector's limit holds from the first call.
        Directory.CreateDirectory(Data);
        var plain = Plain();
        return NodeProcess.Start(plain with { Environment = faults.Environment, Arguments = [.. plain.Arguments, .. arguments] });
    }

    private NodeOptions Plain() => new()
    {
        DataDirectory = Data,
        Arguments = ["--wal-segment-size", "1mb", "--write-buffer", "1mb"],
    };
}
