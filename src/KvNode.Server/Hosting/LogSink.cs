using System.Collections.Concurrent;

namespace KvNode.Server.Hosting;

/// <summary>
/// Takes log lines from any thread and writes them to standard error on one of its own. Never makes a caller wait: while
/// nobody reads standard error, lines wait up to <see cref="Limits.LogLinesQueuedMax"/>, then they are dropped and
/// counted, and the count is written when somebody reads again.
/// </summary>
internal sealed class LogSink : ILoggerProvider
{
    private readonly BlockingCollection<byte[]> _lines = new(Limits.LogLinesQueuedMax);
    private readonly Stream _output;
    private readonly LogFormat _format;
    private readonly TimeProvider _clock;
    private readonly Thread _writer;
    private long _dropped;
    private long _droppedReported;

    /// <param name="output">Where lines go; owned by the sink's thread until <see cref="Dispose"/> has returned.</param>
    public LogSink(Stream output, LogFormat format, TimeProvider clock)
    {
        _output = output;
        _format = format;
        _clock = clock;

        // In the background: a reader that never comes back must not keep the process alive.
        _writer = new Thread(WriteLines) { Name = "log", IsBackground = true };
        _writer.Start();
    }

    /// <summary>Lines lost since the start. Any thread.</summary>
    public long Dropped => Interlocked.Read(ref _dropped);

    /// <summary>A sink on standard error and a factory on it, at the level of the options. Dispose the factory, then the sink.</summary>
    public static (LogSink Sink, ILoggerFactory Factory) Open(NodeOptions options)
    {
        var sink = new LogSink(Console.OpenStandardError(), options.LogFormat, TimeProvider.System);
        return (sink, LoggerFactory.Create(logging => Configure(logging, sink, options.LogLevel)));
    }

    /// <summary>This sink and no other; of the framework's own lines only warnings and worse.</summary>
    public static void Configure(ILoggingBuilder logging, LogSink sink, LogLevel level) =>
        _ = logging.ClearProviders()
            .SetMinimumLevel(level)
            .AddFilter("Microsoft", level > LogLevel.Warning ? level : LogLevel.Warning)
            .AddProvider(sink);

    public ILogger CreateLogger(string categoryName) => new Logger(this);

    /// <summary>Takes no more lines and waits a moment for the last ones to be written.</summary>
    public void Dispose()
    {
        _lines.CompleteAdding();
        _ = _writer.Join(Limits.LogDrainMillisecondsMax);
    }

    private void Add(in LogLine line)
    {
        var bytes = line.Format(_format);
        try
        {
            if (_lines.TryAdd(bytes))
            {
                return;
            }
        }
        catch (InvalidOperationException)
        {
            // Adding is complete: the node is stopping, and this line came too late.
        }

        _ = Interlocked.Increment(ref _dropped);
    }

    private void WriteLines()
    {
        foreach (var line in _lines.GetConsumingEnumerable())
        {
            Write(line);
            var dropped = Dropped;
            if (dropped > _droppedReported)
            {
                var message = $"{dropped - _droppedReported} log lines were lost here: standard error was not read";
                _droppedReported = dropped;
                Write(new LogLine(_clock.GetUtcNow(), LogLevel.Warning, new EventId(1900, "LinesLost"), message, null, null)
                    .Format(_format));
            }
        }
    }

    private void Write(byte[] line)
    {
        try
        {
            _output.Write(line);
            _output.Flush();
        }
        catch (IOException)
        {
            // The reader of the pipe is gone for good. Logging is not worth ending a node for.
            _ = Interlocked.Increment(ref _dropped);
        }
    }

    private sealed class Logger(LogSink sink) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            sink.Add(new LogLine(
                sink._clock.GetUtcNow(),
                logLevel,
                eventId,
                formatter(state, exception),
                exception,
                state as IReadOnlyList<KeyValuePair<string, object?>>));
    }
}
