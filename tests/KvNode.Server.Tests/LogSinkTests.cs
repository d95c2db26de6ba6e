using System.Text;
using System.Text.Json;
using KvNode.Server.Hosting;
using Microsoft.Extensions.Logging;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class LogSinkTests
{
    private sealed class FixedClock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => new(2026, 1, 2, 3, 4, 5, 678, TimeSpan.Zero);
    }

    /// <summary>A pipe whose reader is stopped until told otherwise.</summary>
    private sealed class StuckStream : MemoryStream
    {
        private readonly ManualResetEventSlim _open = new();

        public ManualResetEventSlim Entered { get; } = new();

        public void Release() => _open.Set();

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            Entered.Set();
            _open.Wait();
            base.Write(buffer);
        }
    }

    private sealed class BrokenStream : MemoryStream
    {
        public override void Write(ReadOnlySpan<byte> buffer) => throw new IOException("Broken pipe");
    }

    private static string Written(LogFormat format, Action<ILogger> act, LogLevel level = LogLevel.Debug)
    {
        using var output = new MemoryStream();
        using (var sink = new LogSink(output, format, new FixedClock()))
        using (var factory = LoggerFactory.Create(logging => LogSink.Configure(logging, sink, level)))
        {
            act(factory.CreateLogger("kvnode"));
        }

        return Encoding.UTF8.GetString(output.ToArray());
    }

    [Fact]
    public void TextLineHasTimeLevelEventAndSentence() =>
        Assert.Equal(
            "2026-01-02T03:04:05.678Z info 1004 Listening on 127.0.0.1:4920\n",
            Written(LogFormat.Text, static logger => Log.Listening(logger, "127.0.0.1:4920")));

    [Fact]
    public void JsonLineCarriesTheValuesByName()
    {
        var line = Written(LogFormat.Json, static logger => Log.Recovered(logger, 5, 6, 7, 8, 9));
        using var json = JsonDocument.Parse(line);
        Assert.EndsWith("}\n", line, StringComparison.Ordinal);
        Assert.Equal("2026-01-02T03:04:05.678Z", json.RootElement.GetProperty("time").GetString());
        Assert.Equal("info", json.RootElement.GetProperty("level").GetString());
        Assert.Equal(1002, json.RootElement.GetProperty("event").GetInt32());
        Assert.Equal("Recovered", json.RootElement.GetProperty("name").GetString());
        Assert.Equal(5, json.RootElement.GetProperty("fields").GetProperty("Keys").GetInt64());
        Assert.Equal(6ul, json.RootElement.GetProperty("fields").GetProperty("Index").GetUInt64());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void NoByteOfAClientForgesALine(bool asJson)
    {
        var text = Written(asJson ? LogFormat.Json : LogFormat.Text, static logger => Log.ClientClosed(logger, "a\nb\u001b[2J", "\r\0"));
        Assert.Equal(1, text.Count(static c => char.IsControl(c)));
        Assert.EndsWith("\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void ExceptionFollowsIndented()
    {
        var text = Written(LogFormat.Text, static logger => Log.ClientFailed(logger, new InvalidOperationException("why"), "x:1"));
        var lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Contains(" error 3002 ", lines[0], StringComparison.Ordinal);
        Assert.Equal("    System.InvalidOperationException: why", lines[1]);
    }

    [Fact]
    public void LevelIsObeyedAndTheFrameworkIsHeardFromWarningOn()
    {
        Assert.Empty(Written(LogFormat.Text, static logger => Log.Listening(logger, "x"), LogLevel.Warning));
        using var output = new MemoryStream();
        using (var sink = new LogSink(output, LogFormat.Text, new FixedClock()))
        using (var factory = LoggerFactory.Create(logging => LogSink.Configure(logging, sink, LogLevel.Debug)))
        {
            var framework = factory.CreateLogger("Microsoft.AspNetCore.Server.Kestrel");
            Assert.False(framework.IsEnabled(LogLevel.Information));
            Assert.True(framework.IsEnabled(LogLevel.Warning));
        }
    }

    [Fact]
    public void StuckReaderNeverMakesACallerWaitAndLostLinesAreCounted()
    {
        using var output = new StuckStream();
        const int TooMany = 100;
        using (var sink = new LogSink(output, LogFormat.Text, new FixedClock()))
        {
            var logger = sink.CreateLogger("kvnode");
            Log.Listening(logger, "first");

            // The writer holds the first line and waits; the queue behind it is empty.
            output.Entered.Wait();
            for (var i = 0; i < Limits.LogLinesQueuedMax + TooMany; i++)
            {
                Log.Listening(logger, "x");
            }

            Assert.Equal(TooMany, sink.Dropped);
            output.Release();
        }

        var lines = Encoding.UTF8.GetString(output.ToArray()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(Limits.LogLinesQueuedMax + 2, lines.Length);
        Assert.Single(lines, static line => line.Contains($" warning 1900 {TooMany} log lines were lost", StringComparison.Ordinal));
    }

    [Fact]
    public void StuckReaderDelaysTheEndByABoundedTimeOnly()
    {
        var output = new StuckStream(); // never closed: its reader comes back after the sink has given up
        var sink = new LogSink(output, LogFormat.Text, new FixedClock());
        Log.Listening(sink.CreateLogger("kvnode"), "first");
        output.Entered.Wait();
        sink.Dispose();
        Log.Listening(sink.CreateLogger("kvnode"), "late");
        Assert.Equal(1, sink.Dropped);
        output.Release();
    }

    [Fact]
    public void ReaderThatIsGoneIsNotWorthEndingFor()
    {
        using var output = new BrokenStream();
        using var sink = new LogSink(output, LogFormat.Text, new FixedClock());
        Log.Listening(sink.CreateLogger("kvnode"), "x");
        Log.Listening(sink.CreateLogger("kvnode"), "y");
        sink.Dispose();
        Assert.True(sink.Dropped >= 2);
    }
}
