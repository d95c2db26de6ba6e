using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>
/// The README's tour, typed as it stands: each transcript's commands are run and must print what it shows. The form of the
/// transcripts is described in the README itself, in a comment above them.
/// </summary>
public sealed partial class ReadmeTourTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    private readonly TempDirectory _directory = new("tour");
    private readonly List<ChildProcess> _nodes = [];
    private readonly Dictionary<string, string> _ports = new(StringComparer.Ordinal)
    {
        ["4920"] = $"{Ports.Free()}",
        ["4921"] = $"{Ports.Free()}",
    };

    public void Dispose()
    {
        foreach (var node in _nodes)
        {
            node.Dispose();
        }

        _directory.Dispose();
    }

    [Fact]
    public void EveryTranscriptOfTheReadmeHappensAsItIsShown()
    {
        Prepare();
        var readme = File.ReadAllText(Path.Combine(Repository.Root, "README.md"));
        var transcripts = TranscriptBlock().Matches(readme);
        Assert.NotEmpty(transcripts);
        foreach (Match transcript in transcripts)
        {
            var text = OtherPorts(transcript.Groups["text"].Value);
            foreach (Match step in Step().Matches(text))
            {
                var command = step.Groups["command"].Value;
                var expected = step.Groups["output"].Value;
                if (transcript.Groups["node"].Success)
                {
                    StartNode(command, expected);
                }
                else
                {
                    RunCommand(command, expected);
                }
            }
        }

        // The tour stops what it starts.
        Assert.All(_nodes, static node => Assert.Equal(0, node.WaitForExit(Patience)));
    }

    /// <summary>A directory in which the tour's relative paths lead to the checkout, and a redis-cli that believes in a terminal.</summary>
    private void Prepare()
    {
        _ = Tool.Require("lz4");
        foreach (var name in new[] { "run.sh", "artifacts" })
        {
            _ = File.CreateSymbolicLink(_directory.Sub(name), Path.Combine(Repository.Root, name));
        }

        var folder = Directory.CreateDirectory(_directory.Sub("bin")).FullName;
        var wrapper = Path.Combine(folder, "redis-cli");
        File.WriteAllText(wrapper, $"#!/bin/sh\nexec {Tool.Require("redis-cli")} --no-raw \"$@\"\n");
        _ = Tool.RunOk("chmod", ["+x", wrapper]);
    }

    private string OtherPorts(string text) =>
        _ports.Aggregate(text, static (result, port) => result.Replace(port.Key, port.Value, StringComparison.Ordinal));

    private void StartNode(string command, string expected)
    {
        var node = Start("exec " + command);
        _nodes.Add(node);
        var pattern = Pattern(expected, whole: false);
        var clock = Stopwatch.StartNew();
        while (!pattern.IsMatch(node.ErrorText))
        {
            Assert.False(node.HasExited, $"{command} ended:\n{node.ErrorText}");
            Assert.True(clock.Elapsed < Patience, $"{command} printed\n{node.ErrorText}\ninstead of\n{expected}");
            Thread.Sleep(20);
        }
    }

    private void RunCommand(string command, string expected)
    {
        using var shell = Start($"{{ {command}\n}} 2>&1");
        _ = shell.WaitForExit(Patience);
        Assert.True(
            Pattern(expected, whole: true).IsMatch(shell.OutputText),
            $"{command} printed\n{shell.OutputText}\ninstead of\n{expected}");
    }

    private ChildProcess Start(string command) => new(new ChildStart
    {
        Program = "bash",
        Arguments = ["-c", command],
        WorkingDirectory = _directory.Path,
        Environment = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["PATH"] = $"{_directory.Sub("bin")}:{Environment.GetEnvironmentVariable("PATH")}",
            ["KVNODE_ADDR"] = $"127.0.0.1:{_ports["4920"]}",
        },
    });

    private static Regex Pattern(string expected, bool whole)
    {
        var pattern = new StringBuilder("^");
        foreach (var line in expected.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            // <word> is any characters of a line, a line of three dots any lines.
            _ = line == "..."
                ? pattern.Append("(?:.*\n)*?")
                : pattern.Append(Placeholder().Replace(Regex.Escape(line), ".+")).Append('\n');
        }

        return new Regex(pattern.Append(whole ? "$" : "").ToString(), RegexOptions.None, TimeSpan.FromSeconds(10));
    }

    [GeneratedRegex("^```console(?<node> node)?\n(?<text>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline | RegexOptions.ExplicitCapture)]
    private static partial Regex TranscriptBlock();

    [GeneratedRegex(@"^\$ (?<command>[^\n]*)\n(?<output>((?!\$ )[^\n]*\n)*)", RegexOptions.Multiline | RegexOptions.ExplicitCapture)]
    private static partial Regex Step();

    [GeneratedRegex("<[a-z]+>")]
    private static partial Regex Placeholder();
}
