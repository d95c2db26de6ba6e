using System.Text;
using System.Text.RegularExpressions;
using KvNode.Server.Hosting;
using KvNode.Storage;
using KvNode.Testing;
using Xunit;
using ExitCodes = KvNode.Server.Hosting.ExitCodes;

namespace KvNode.Server.Tests;

/// <summary><c>kvnode check</c> on the files of a real node: sound, then damaged in one place at a time.</summary>
public sealed partial class CheckToolTests : IDisposable
{
    private readonly TempDirectory _directory = new("check");

    private string Data => _directory.Sub("data");

    private string Log => _directory.Sub("log");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task StoppedNodeIsSoundAndWhatItHoldsIsSaid()
    {
        await RunNodeAsync();
        var (code, text) = Check();
        Assert.Equal(ExitCodes.Ok, code);
        Assert.Contains("store: 3 keys", text, StringComparison.Ordinal);
        Assert.Matches("(?m)^snapshot 2-[0-9]+-[0-9]+: 3 keys in [0-9]+ bytes$", text);
        Assert.EndsWith("\nsound\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CheckChangesNothing()
    {
        await RunNodeAsync();
        var before = Picture();
        _ = Check();
        Assert.Equal(before, Picture());
    }

    [Theory]
    [InlineData("data", "data.mdb")]
    [InlineData("log", "state.bin")]
    [InlineData("log", "meta.json")]
    [InlineData("log", "*.wal")]
    public async Task DamagedFileIsFoundAndNamed(string place, string pattern)
    {
        await RunNodeAsync();
        var file = Directory.GetFiles(_directory.Sub(place), pattern, SearchOption.AllDirectories).Order(StringComparer.Ordinal).First();
        using (var stream = new FileStream(file, FileMode.Open))
        {
            // The front of a file is in use in all four formats.
            stream.Write(Encoding.ASCII.GetBytes(new string('x', 64)));
        }

        var (code, text) = Check();
        Assert.Equal(ExitCodes.BadData, code);
        Assert.EndsWith("\ndamaged\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task LogThatEndsBeforeTheStoreIsDamage()
    {
        await RunNodeAsync();
        foreach (var segment in Directory.GetFiles(Path.Combine(Log, "wal")))
        {
            File.Delete(segment);
        }

        var (code, text) = Check();
        Assert.Equal(ExitCodes.BadData, code);
        Assert.EndsWith("\ndamaged\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunningNodeIsNotChecked()
    {
        await RunNodeAsync(_ => Assert.Throws<DirectoryLockedException>(() => Check()));
    }

    [Fact]
    public void WhereThereIsNoNodeNothingIsMade()
    {
        Assert.Throws<DirectoryNotFoundException>(() => Check());
        Directory.CreateDirectory(Data);
        Directory.CreateDirectory(Log);
        Assert.Throws<DirectoryNotFoundException>(() => Check());
        Assert.Empty(Directory.GetFileSystemEntries(Data));
        Assert.Empty(Directory.GetFileSystemEntries(Log));
    }

    private (int Code, string Text) Check()
    {
        using var output = new StringWriter();
        var code = CheckTool.Run(Data, Log, output);
        return (code, output.ToString());
    }

    /// <summary>Starts a node, writes three keys and a snapshot, and stops it.</summary>
    private async Task RunNodeAsync(Action<RespClient>? meanwhile = null)
    {
        string[] arguments = ["--addr", "127.0.0.1:0", "--data", Data, "--log-dir", Log, "--wal-segment-size", "1mb"];
        var options = Assert.IsType<Invocation.RunNode>(new CommandLine(static _ => null).Parse(arguments)).Options;
        using var lines = new MemoryStream();
        var sink = new LogSink(lines, LogFormat.Text, TimeProvider.System);
        await using (await Node.StartAsync(options, sink.CreateLogger("kvnode"), static () => { }))
        {
            sink.Dispose();
            var port = ListeningLine().Match(Encoding.UTF8.GetString(lines.ToArray())).Groups["port"].Value;
            using var client = new RespClient(int.Parse(port));
            Assert.Equal("+OK", client.Text("MSET", "a", "1", "b", "2", "c", "3"));
            Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
            meanwhile?.Invoke(client);
        }
    }

    /// <summary>Every file but the lock files, with its size and content's hash.</summary>
    private string Picture() => string.Join('\n', Directory.GetFiles(_directory.Path, "*", SearchOption.AllDirectories)
        .Where(static file => Path.GetFileName(file) != "LOCK")
        .Order(StringComparer.Ordinal)
        .Select(static file => $"{file} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file)))}"));

    [GeneratedRegex(@"Listening on 127\.0\.0\.1:(?<port>\d+)", RegexOptions.ExplicitCapture)]
    private static partial Regex ListeningLine();
}
