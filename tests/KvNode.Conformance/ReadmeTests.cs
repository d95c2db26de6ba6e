using System.Diagnostics;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>The README's transcripts, run as they stand, on ports of our own.</summary>
public sealed class ReadmeTests : IDisposable
{
    private readonly TempDirectory _directory = new("readme");
    private readonly List<ChildProcess> _nodes = [];
    private readonly (string Written, string Used)[] _ports =
        [("4920", $"{Ports.Free()}"), ("4921", $"{Ports.Free()}"), ("4922", $"{Ports.Free()}")];

    public void Dispose()
    {
        _nodes.ForEach(static node => node.Dispose());
        _directory.Dispose();
    }

    [Fact]
    public void TourOfTheReadmePrintsWhatItSays()
    {
        _ = Tool.Require("redis-cli");
        _ = Tool.Require("lz4");
        File.CreateSymbolicLink(_directory.Sub("run.sh"), Path.Combine(Repository.Root, "run.sh"));
        File.CreateSymbolicLink(_directory.Sub("artifacts"), Path.Combine(Repository.Root, "artifacts"));
        var blocks = TranscriptBlock.ReadAll(File.ReadLines(Path.Combine(Repository.Root, "README.md")));
        Assert.True(blocks.Count >= 5, $"{blocks.Count} transcripts");
        foreach (var block in blocks)
        {
            foreach (var step in block.Steps)
            {
                RunStep(block.GoesOn, step with { Command = WithOurPorts(step.Command), Expected = [.. step.Expected.Select(WithOurPorts)] });
            }
        }

        Assert.All(_nodes, static node => Assert.Equal(ExitCodes.Success, node.WaitForExit(TimeSpan.FromSeconds(30))));
    }

    [Theory]
    [InlineData("a\nb\n", "a\nb\n", true)]
    [InlineData("a\n...\nz\n", "a\nz\n", true)]
    [InlineData("a\n...\nz\n", "a\nb\nc\nz\n", true)]
    [InlineData("took <time> ms\n", "took 3.5 ms\n", true)]
    [InlineData("took <time> ms\n", "took 3\n5 ms\n", false)]
    [InlineData("a\n", "a\nb\n", false)]
    [InlineData("a\nb\n", "a\n", false)]
    [InlineData("a.c\n", "abc\n", false)]
    public void TranscriptMatchesOnlyWhatItSays(string expected, string printed, bool matches)
    {
        var step = new TranscriptStep("", expected.Split('\n')[..^1]);
        Assert.Equal(matches, step.Matches(printed));
    }

    private string WithOurPorts(string line) =>
        _ports.Aggregate(line, static (text, port) => text.Replace(port.Written, port.Used, StringComparison.Ordinal));

    private void RunStep(bool goesOn, TranscriptStep step)
    {
        using var started = goesOn ? null : Start(step.Command);
        if (started is not null)
        {
            _ = started.WaitForExit(TimeSpan.FromSeconds(120));
            Assert.True(step.Matches(started.OutputText), $"$ {step.Command}\n{started.OutputText}\nis not what the README says");
            WaitForStop(step.Command);
            WaitForKill(step.Command);
            return;
        }

        var node = Start("exec " + step.Command);
        _nodes.Add(node);
        var clock = Stopwatch.StartNew();
        while (!step.BeginsLike(node.OutputText))
        {
            Assert.True(
                clock.Elapsed < TimeSpan.FromSeconds(180) && !node.HasExited,
                $"$ {step.Command}\n{node.OutputText}\nis not what the README says");
            Thread.Sleep(20);
        }
    }

    /// <summary>A person takes a moment between stopping a node and looking at its files; the node does its part meanwhile.</summary>
    private void WaitForStop(string command)
    {
        if (!command.Contains(" SHUTDOWN", StringComparison.Ordinal))
        {
            return;
        }

        var clock = Stopwatch.StartNew();
        var port = command.Split(' ').SkipWhile(static word => word != "-p").ElementAt(1);
        var node = _nodes.Last(candidate => candidate.OutputText.Contains($"Listening on 127.0.0.1:{port}", StringComparison.Ordinal));
        Assert.Equal(ExitCodes.Success, node.WaitForExit(TimeSpan.FromSeconds(30)));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(5), $"SHUTDOWN took {clock.Elapsed.TotalSeconds} s");
    }

    private void WaitForKill(string command)
    {
        if (!command.StartsWith("kill ", StringComparison.Ordinal))
        {
            return;
        }

        var clock = Stopwatch.StartNew();
        ChildProcess? killed;
        while ((killed = _nodes.Find(static node => node.HasExited && node.WaitForExit(TimeSpan.FromSeconds(1)) != ExitCodes.Success)) is null)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), "nobody was killed");
            Thread.Sleep(20);
        }

        _ = _nodes.Remove(killed);
        killed.Dispose();
    }

    private ChildProcess Start(string command) => new(new ChildStart
    {
        Program = "/bin/bash",
        Arguments = ["-c", $"{{ {command}\n}} 2>&1"],
        WorkingDirectory = _directory.Path,
        Environment = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            // redis-cli prints as on a terminal, and a node that is given no address takes our port.
            ["FAKETTY"] = "1",
            ["KVNODE_ADDR"] = $"127.0.0.1:{_ports[0].Used}",
        },
    });
}
