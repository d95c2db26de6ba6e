namespace KvNode.Raft.Transport;

/// <summary>Ends a wait for the other end of a connection that carries a snapshot when it lasts too long.</summary>
/// <remarks>Counted in ping intervals, and for one wait at a time, as <see cref="PeerConnection"/> does: a node that was stopped
/// for a while, or is busy with its own disk, does not take that for the other's silence.</remarks>
internal sealed class SilenceWatch : IDisposable
{
    private readonly Lock _lock = new();
    private readonly TransportOptions _options;
    private readonly Func<bool>? _livesElsewhere;
    private readonly CancellationTokenSource _over;
    private readonly ITimer _ticks;

    // Under the lock.
    private bool _isWaiting;
    private bool _isDisposed;
    private int _intervals;

    /// <param name="livesElsewhere">Asked in each interval: the other end shows on another connection that it lives, so this
    /// one may be silent.</param>
    public SilenceWatch(TransportOptions options, CancellationToken cancellation, Func<bool>? livesElsewhere = null)
    {
        _options = options;
        _livesElsewhere = livesElsewhere;
        _over = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Token = _over.Token;
        _ticks = options.Time.CreateTimer(_ => Tick(), state: null, options.PingInterval, options.PingInterval);
    }

    /// <summary>For all that is awaited of the other end.</summary>
    public CancellationToken Token { get; }

    /// <summary>The silence, and nothing else, has cancelled the token.</summary>
    public bool IsOver { get; private set; }

    public IOException Failure => new(
        $"nothing moved for {_options.SilentIntervalsMax} times {_options.PingInterval.TotalMilliseconds} ms");

    public void Begin()
    {
        lock (_lock)
        {
            (_isWaiting, _intervals) = (true, 0);
        }
    }

    public void End()
    {
        lock (_lock)
        {
            _isWaiting = false;
        }
    }

    public void Dispose()
    {
        _ticks.Dispose();
        lock (_lock)
        {
            _isDisposed = true;
            _over.Dispose();
        }
    }

    private void Tick()
    {
        var lives = _livesElsewhere?.Invoke() == true;
        lock (_lock)
        {
            if (_isDisposed || !_isWaiting)
            {
                return;
            }

            _intervals = lives ? 0 : _intervals + 1;
            if (_intervals > _options.SilentIntervalsMax && !IsOver)
            {
                IsOver = true;

                // Not on this thread: who waits goes on there.
                _ = _over.CancelAsync();
            }
        }
    }
}
